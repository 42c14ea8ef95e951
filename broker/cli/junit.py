"""Results as JUnit XML, as CI servers read it: one test suite for each channel, one test case for each case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from broker.engine.suite import Item, Result

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def junit(results: Iterable[tuple[Item, Result]]) -> bytes:
    """Return the XML document."""
    suites: dict[str, list[tuple[Item, Result]]] = {}
    for item, result in results:
        suites.setdefault(item.suite, []).append((item, result))
    root = ElementTree.Element("testsuites", _counts([pair for suite in suites.values() for pair in suite]), name="broker test")
    for name, suite in suites.items():
        element = ElementTree.SubElement(root, "testsuite", _counts(suite), name=_text(name))
        for item, result in suite:
            _case(element, item, result)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: ElementTree.Element, item: Item, result: Result) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_text(item.suite),
        name=_text(item.name),
        file=_text(item.file),
        line=str(item.line),
        time=f"{result.seconds:.3f}",
    )
    if result.failures:
        lines = "\n".join([*result.failures, f"{item.file}:{result.line or item.line}"])
        ElementTree.SubElement(case, "failure", message=_text(result.failures[0]), type="AssertionError").text = _text(lines)


def _counts(pairs: list[tuple[Item, Result]]) -> dict[str, str]:
    return {
        "tests": str(len(pairs)),
        "failures": str(sum(bool(result.failures) for _, result in pairs)),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(result.seconds for _, result in pairs):.3f}",
    }


def _text(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)
