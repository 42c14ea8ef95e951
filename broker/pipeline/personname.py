"""Names of persons as HL7, DICOM and people write them, and from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.hl7.delimiters import STANDARD
from broker.ris.names import component, pn


class NotAName(ValueError):
    """The text is no name in that form."""


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a person's name."""

    family: str
    given: str = ""
    middle: str = ""
    suffix: str = ""
    prefix: str = ""


def _composite(first: int) -> Callable[[str], Name]:
    """Return the reader of an HL7 composite whose family name is component `first`."""
    return lambda raw: Name(*(component(raw, first + at) for at in range(5)))


def _from_pn(text: str) -> Name:
    family, given, middle, prefix, suffix = (*text.partition("=")[0].split("^"), "", "", "", "", "")[:5]
    return Name(family, given, middle, suffix, prefix)


def _from_family_first(text: str) -> Name:
    family, comma, rest = text.partition(",")
    if not comma:
        raise NotAName
    given, _, middle = rest.strip().partition(" ")
    return Name(family.strip(), given, middle.strip())


def _to_xpn(name: Name) -> str:
    parts = (name.family, name.given, name.middle, name.suffix, name.prefix)
    return "^".join(STANDARD.escaped(part) for part in parts).rstrip("^")


def _words(*parts: str) -> str:
    return " ".join(filter(None, parts))


# what a name is read from; HL7 composites are given as they stand, with their escapes
READ: Mapping[str, Callable[[str], Name]] = {
    "XPN": _composite(1),
    "XCN": _composite(2),
    "PN": _from_pn,
    "family first": _from_family_first,
}
# what a name is written as; XPN and XCN as a composite, the others as text
WRITE: Mapping[str, Callable[[Name], str]] = {
    "XPN": _to_xpn,
    "XCN": lambda name: f"^{_to_xpn(name)}",
    "PN": lambda name: pn(name.family, name.given, name.middle, name.prefix, name.suffix),
    "family first": lambda name: ", ".join(filter(None, (_words(name.family), _words(name.given, name.middle)))),
    "given first": lambda name: _words(name.prefix, name.given, name.middle, name.family, name.suffix),
}
COMPOSITES = frozenset({"XPN", "XCN"})


def compile_names(source: str, target: str) -> Callable[[str], str]:
    """Return the function from one form to the other; it raises NotAName."""
    read, write = READ[source], WRITE[target]

    def convert(text: str) -> str:
        name = read(text)
        if not name.family:
            raise NotAName
        return write(name)

    return convert
