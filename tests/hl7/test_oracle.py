"""Beside python-hl7 and hl7apy: all read the same parts out of the same messages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.message import Message

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="|^~\\&\r\n\x0b\x1c\x85\u2028\u2029", exclude_categories=("Cs", "Cc", "Zs")), max_size=6
)
SUBCOMPONENTS = st.lists(TEXT, min_size=1, max_size=3).map("&".join)
COMPONENTS = st.lists(SUBCOMPONENTS, min_size=1, max_size=3).map("^".join)
FIELD = st.lists(COMPONENTS, min_size=1, max_size=3).map("~".join)
SEGMENT = st.tuples(st.sampled_from(["PID", "OBX", "ZZ1"]), st.lists(FIELD, min_size=1, max_size=5)).map(lambda s: "|".join([s[0], *s[1]]))
HEADER = "MSH|^~\\&|EHR|GH|||2026||ORM^O01^ORM_O01|C1|P|2.5.1||||||UNICODE UTF-8"
MESSAGE = st.lists(SEGMENT, min_size=1, max_size=5).map(lambda segments: "\r".join([HEADER, *segments, ""]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(MESSAGE)
def test_every_part_is_where_python_hl7_finds_it(text: str) -> None:
    ours, theirs = Message.parse(text.encode()), hl7.parse(text)
    counts: dict[str, int] = {}
    for segment in theirs:
        name = str(segment[0])
        counts[name] = number = counts.get(name, 0) + 1
        for f in range(1, len(segment)):
            field = segment[f]
            assert ours.raw(f"{name}[{number}]-{f}") == str(field)
            if name == "MSH":
                continue
            for r in range(1, len(field) + 1):
                for c in range(1, 4):
                    for s in range(1, 4):
                        mine = ours.raw(f"{name}[{number}]-{f}[{r}].{c}.{s}")
                        assert mine == _extract(theirs, name, number, f, r, c, s)
    assert {name: len(ours.segments(name)) for name in counts} == counts


@settings(max_examples=150, deadline=None, derandomize=True)
@given(MESSAGE, st.sampled_from(["PID", "OBX"]), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), TEXT)
def test_what_is_set_is_where_python_hl7_finds_it(text: str, name: str, f: int, r: int, c: int, value: str) -> None:
    ours = Message.parse(text.encode())
    path = f"{name}-{f}[{r}].{c}"
    ours.set(path, value)
    assert ours.get(path) == value
    if value:
        theirs = hl7.parse(ours.encode().decode())
        assert _extract(theirs, name, 1, f, r, c, 1) == value


def _extract(message: hl7.Message, *place: object) -> str:
    name, number, f, r, c, s = place
    try:
        field = message.segments(name)[number - 1](f)
        repetition = field(r)
        component = repetition(c) if isinstance(repetition, hl7.Repetition) else (repetition if c == 1 else "")
        found = component(s) if isinstance(component, hl7.Component) else (component if s == 1 else "")
    except (IndexError, KeyError):
        return ""
    return str(found)


# hl7apy knows the data types, and reads parts by their names: fields that may have components, in segments of the standard
TYPED = st.tuples(
    st.sampled_from([("PID", 3), ("PID", 5), ("PID", 11), ("OBX", 3), ("PV1", 7)]),
    st.lists(
        st.lists(st.lists(TEXT, min_size=1, max_size=2).map("&".join), min_size=1, max_size=3).map("^".join), min_size=1, max_size=3
    ).map("~".join),
).map(lambda one: one[0][0] + "|" * one[0][1] + one[1])
TYPED_MESSAGE = st.lists(TYPED, min_size=1, max_size=4).map(
    lambda segments: "\r".join([HEADER.replace("ORM^O01^ORM_O01", "ADT^A01"), *segments, ""])
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TYPED_MESSAGE)
def test_every_part_is_where_hl7apy_finds_it(text: str) -> None:
    ours = Message.parse(text.encode())
    theirs = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
    found = [(path, part) for path, part in _parts(theirs) if not path.startswith("MSH")]
    for path, part in found:
        assert ours.raw(path) == part, path
    # and there is nothing that only we find
    filled = sum(
        bool(ours.raw(f"{name}[{n}]-{f}[{r}].{c}.{s}"))
        for name in ("PID", "OBX", "PV1")
        for n in ours.segments(name)
        for f in (3, 5, 7, 11)
        for r in (1, 2, 3)
        for c in (1, 2, 3)
        for s in (1, 2)
    )
    assert filled == sum(bool(part) for _, part in found)


def _parts(message: Any) -> Iterator[tuple[str, str]]:
    """Yield each subcomponent that hl7apy has, with its path."""
    segments: dict[str, int] = {}
    for segment in message.children:
        segments[segment.name] = number = segments.get(segment.name, 0) + 1
        repetitions: dict[str, int] = {}
        for field in segment.children:
            repetitions[field.name] = repetition = repetitions.get(field.name, 0) + 1
            place = f"{segment.name}[{number}]-{field.name.rpartition('_')[2]}[{repetition}]"
            for component in field.children:
                at = component.name.rpartition("_")[2]
                for index, sub in enumerate(component.children, 1):
                    last = sub.name.rpartition("_")[2]
                    yield f"{place}.{at}.{last if last.isdigit() else index}", sub.to_er7()


SAMPLES = [
    file
    for file in sorted((Path(__file__).parent.parent / "samples" / "hl7").glob("*.hl7"))
    # python-hl7 ends segments at CR alone, takes every MSH-2 as it stands, gives a field in the message's own delimiters, and reads
    # no character set of several bytes
    if not any(
        odd in file.stem
        for odd in ("lf", "mixed", "doubled", "other_delimiters", "gb18030", "japanese", "latin_1", "1252", "stray", "byte_order")
    )
]


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_samples_are_read_as_python_hl7_does(file: Path) -> None:
    ours, theirs = Message.parse(file.read_bytes()), hl7.parse(file.read_bytes().decode())
    counts: dict[str, int] = {}
    for segment in theirs:
        name = str(segment[0])
        if not name:
            continue  # a blank line
        counts[name] = counts.get(name, 0) + 1
        for f in range(2, len(segment)):
            path = f"{name}[{counts[name]}]-{f}"
            # python-hl7 strips blanks from the end of each segment; the standard has them belong to the field (2.5.3)
            assert ours.raw(path).rstrip() == str(segment[f]).rstrip()
    assert {name: len(ours.segments(name)) for name in counts} == counts
