"""Beside python-hl7: both read the same parts out of the same messages."""

import hl7
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
