"""What differs between two messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hl7.difference import difference
from broker.hl7.message import Message
from broker.model import Change

RAW = (
    "MSH|^~\\&|EHR|HOSP|||20260302||ORU^R01|1|P|2.5.1\r"
    "PID|1||4711^^^GENHOSP^MR~99^^^NAT^NI||DOE^JANE\r"
    "OBR|1|P1|F1|CT\r"
    "OBX|1|TX|A||first\r"
    "OBX|2|TX|B||second\r"
    "OBX|3|TX|C||third\r"
    "ZZ1|x\r"
)


def changed(*edits: tuple[str, str], raw: str = RAW) -> list[Change]:
    before = Message.parse(raw.encode())
    after = before.clone()
    for path, text in edits:
        after.set(path, text)
    return difference(before, after)


@pytest.mark.parametrize(
    ("path", "text", "wanted"),
    [
        ("OBR-4", "MR", Change("OBR-4", "CT", "MR", "changed")),
        ("PID-5.1", "ROE", Change("PID-5.1", "DOE", "ROE", "changed")),
        ("PID-5.3", "Q", Change("PID-5.3", "", "Q", "added")),
        ("PID-3.4.2", "1.2", Change("PID-3.4.2", "", "1.2", "added")),
        ("PID-3[2].1", "98", Change("PID-3[2].1", "99", "98", "changed")),
        ("PID-3[3].1", "97", Change("PID-3[3]", "", "97", "added")),
        ("NTE-3", "n", Change("NTE", "", "NTE|||n", "added")),
        ("ZZ1-1[2]", "y", Change("ZZ1-1[2]", "", "y", "added")),
        ("PID-8", "F", Change("PID-8", "", "F", "added")),
        ("OBR-2", "", Change("OBR-2", "P1", "", "removed")),
        ("OBX[2]-5", "a & b", Change("OBX[2]-5", "second", "a & b", "changed")),
        ("MSH-5", "PACS", Change("MSH-5", "", "PACS", "added")),
        ("MSH-9.2", "R03", Change("MSH-9.2", "R01", "R03", "changed")),
        ("ZZ1-2", "y", Change("ZZ1-2", "", "y", "added")),
    ],
)
def test_one_field_that_changes_is_named_as_deep_as_it_goes(path: str, text: str, wanted: Change) -> None:
    assert changed((path, text)) == [wanted]


def test_the_first_of_several_plain_repetitions_is_not_taken_for_the_field() -> None:
    assert changed(("ZZ1-1[1]", "y"), raw=RAW.replace("ZZ1|x", "ZZ1|x~z")) == [Change("ZZ1-1[1]", "x", "y", "changed")]


def test_a_component_that_gets_subcomponents_is_told_by_them() -> None:
    assert changed(("OBR-4.1.2", "x")) == [Change("OBR-4.1.2", "", "x", "added")]


def test_segments_that_are_gone_new_or_elsewhere_are_told_as_a_whole() -> None:
    before = Message.parse(RAW.encode())
    lines = RAW.split("\r")
    without = difference(before, Message.parse("\r".join([*lines[:4], *lines[5:]]).encode()))
    assert without == [Change("OBX[2]", "OBX|2|TX|B||second", "", "removed")]
    more = difference(before, Message.parse((RAW + "NTE|1||new\r").encode()))
    assert more == [Change("NTE", "", "NTE|1||new", "added")]
    moved = difference(before, Message.parse("\r".join([*lines[:3], lines[6], *lines[3:6], ""]).encode()))
    assert moved == [Change("ZZ1", "ZZ1|x", "ZZ1|x", "moved")]


def test_the_same_fields_in_other_delimiters_do_not_differ() -> None:
    foreign = RAW.replace("|", "!").replace("^", "*")
    assert difference(Message.parse(RAW.encode()), Message.parse(foreign.encode())) == []


def test_a_message_is_never_different_from_itself_even_in_another_character_set() -> None:
    latin = RAW.replace("|P|2.5.1", "|P|2.5.1||||||8859/1").replace("JANE", "J\xd6RG").encode("latin-1")
    before = Message.parse(latin)
    after = before.clone()
    after.set("MSH-18", "UNICODE UTF-8")
    assert difference(before, after) == [Change("MSH-18", "8859/1", "UNICODE UTF-8", "changed")]


def test_thousands_of_segments_are_compared_in_one_pass() -> None:
    lines = [f"OBX|{number}|TX|A||{number}" for number in range(1, 3001)]
    head = RAW.split("\rOBX", maxsplit=1)[0]
    before = Message.parse("\r".join([head, *lines, ""]).encode())
    after = before.clone()
    after.set("OBX[1500]-5", "x")
    assert difference(before, after) == [Change("OBX[1500]-5", "1500", "x", "changed")]


PATHS = st.sampled_from(["PID-3.1", "PID-3[2].4", "PID-3[3].1", "PID-5.2", "PID-8", "OBR-4", "OBX[3]-5", "ZZ1-3.2.1", "MSH-5.1"])


@given(st.dictionaries(PATHS, st.text("aZ 9\xe4", min_size=1, max_size=8), max_size=6))
def test_what_is_told_leads_from_the_one_to_the_other(edits: dict[str, str]) -> None:
    before = Message.parse(RAW.replace("|2.5.1", "|2.5.1||||||UNICODE UTF-8").encode())
    after, again = before.clone(), before.clone()
    for path, text in edits.items():
        after.set(path, text)
    for change in difference(before, after):
        again.set_raw(change.path, change.after)
    assert again.encode() == after.encode()


def test_both_ways_tell_the_same_places() -> None:
    before = Message.parse(RAW.encode())
    after = before.clone()
    after.set("PID-5.1", "ROE")
    after.set("OBR-2", "")
    there, back = difference(before, after), difference(after, before)
    assert [(c.path, c.before, c.after) for c in there] == [(c.path, c.after, c.before) for c in back]
