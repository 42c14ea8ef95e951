"""Batches are cut without losing a byte, counted, and answered in the sender's own delimiters."""

from __future__ import annotations

import random

import pytest

from broker.hl7.batch import Part, Tally, parts

MSG = "MSH|^~\\&|EHR|H|B|R|2026||ADT^A04|{}|P|2.5.1\rPID|1||4711\r"
FHS = "FHS|^~\\&|EHR|H|BROKER|RAD|2026||night.hl7||F1\r"
BHS = "BHS|^~\\&|EHR|H|BROKER|RAD|2026||ADT||B1\r"


def tally(text: str) -> Tally:
    found = Tally()
    for part in parts(text.encode()):
        batch = found.see(part)
        if batch is not None:
            batch.answers.append(b"ACK%d\r" % batch.count)
    return found


CUT = {
    "a file": (FHS + BHS + MSG.format(1) + MSG.format(2) + "BTS|2\rFTS|1\r", "FHS BHS MSH MSH BTS FTS"),
    "a batch": (BHS + MSG.format(1) + "BTS|1", "BHS MSH BTS"),
    "one message": (MSG.format(1), "MSH"),
    "several messages": (MSG.format(1) + MSG.format(2) + MSG.format(3), "MSH MSH MSH"),
    "line feeds": ((BHS + MSG.format(1) + MSG.format(2) + "BTS|2\r").replace("\r", "\n"), "BHS MSH MSH BTS"),
    "both": ((BHS + MSG.format(1) + MSG.format(2) + "BTS|2\r").replace("\r", "\r\n"), "BHS MSH MSH BTS"),
    "empty lines between": (MSG.format(1) + "\r\n\r\n" + MSG.format(2), "MSH MSH"),
    "a byte order mark": ("\ufeff" + BHS + MSG.format(1), "BHS MSH"),
    "two batches": (FHS + BHS + MSG.format(1) + "BTS|1\r" + BHS + MSG.format(2) + "BTS|1\rFTS|2\r", "FHS BHS MSH BTS BHS MSH BTS FTS"),
    "nothing": ("", ""),
    "no HL7": ("hello\rworld", "-"),
    "something before": ("hello\r" + MSG.format(1), "- MSH"),
    "segments that only begin like one": (MSG.format(1) + "MSHX|1\rBTSY\rFHSA|\r" + MSG.format(2), "MSH MSH"),
    "the name inside a field": (MSG.format(1) + "NTE|1||see MSH|^~\\& and BTS|2\r", "MSH"),
    "other delimiters": ("BHS!*+%$!A\rMSH!*+%$!A\rBTS!1\r", "BHS MSH BTS"),
    "an empty trailer": (BHS + MSG.format(1) + "BTS\rFTS", "BHS MSH BTS FTS"),
}


@pytest.mark.parametrize(("text", "kinds"), CUT.values(), ids=CUT)
def test_it_is_cut_at_headers_messages_and_trailers(text: str, kinds: str) -> None:
    found = list(parts(text.encode()))
    assert " ".join(part.kind or "-" for part in found) == kinds
    assert b"".join(part.raw for part in found) == text.encode()


def test_no_byte_is_lost_whatever_comes() -> None:
    choice = random.Random(20260302)
    pieces = [b"MSH|", b"BHS|^~\\&", b"BTS", b"FTS|1", b"FHS|", b"\r", b"\n", b"x", b"|", b"\xef\xbb\xbf", b"\x0b", b"PID|1"]
    for _ in range(500):
        raw = b"".join(choice.choices(pieces, k=choice.randrange(30)))
        found = list(parts(raw))
        assert b"".join(part.raw for part in found) == raw
        counted = Tally()
        for part in found:
            counted.see(part)
        counted.close()
        assert counted.answer("2026", "A").count(b"\rBTS|") == len(counted.batches)


WRONG = {
    "all as it should be": (FHS + BHS + MSG.format(1) + "BTS|1\rFTS|1\r", []),
    "empty counts claim nothing": (FHS + BHS + MSG.format(1) + "BTS\rFTS|\r", []),
    "messages without a header need no trailer": (MSG.format(1) + MSG.format(2), []),
    "too few messages": (BHS + MSG.format(1) + "BTS|2\r", ["BTS-1 says 2, there are 1 messages"]),
    "too few batches": (FHS + BHS + MSG.format(1) + "BTS|1\rFTS|3\r", ["FTS-1 says 3, there are 1 batches"]),
    "both": (FHS + BHS + "BTS|2\rFTS|0\r", ["BTS-1 says 2, there are 0 messages", "FTS-1 says 0, there are 1 batches"]),
    "no number": (BHS + MSG.format(1) + "BTS|one\r", ["BTS-1 is no number"]),
    "a number without end": (BHS + "BTS|" + "9" * 5000 + "\r", ["BTS-1 says 999999999, there are 0 messages"]),
    "no BTS": (BHS + MSG.format(1), ["no BTS ends the batch"]),
    "no BTS before the next": (BHS + MSG.format(1) + BHS + "BTS|0\r", ["no BTS ends the batch"]),
    "no FTS": (FHS + BHS + "BTS|0\r", ["no FTS ends the file"]),
    "a second FHS": (FHS + BHS + "BTS|0\r" + FHS + "FTS|1\r", ["a second FHS"]),
    "a trailer without a header": (MSG.format(1) + "BTS|2\r", ["BTS-1 says 2, there are 1 messages"]),
    "something else": ("hello\r" + BHS + "BTS|0\r", ["bytes that belong to no message"]),
}


@pytest.mark.parametrize(("text", "faults"), WRONG.values(), ids=WRONG)
def test_headers_and_trailers_are_checked(text: str, faults: list[str]) -> None:
    assert tally(text).close() == faults


def test_a_batch_is_answered_with_a_batch() -> None:
    found = tally(BHS + MSG.format(1) + MSG.format(2) + "BTS|3\r")
    found.close()
    assert found.answer("20260302", "A1").decode().split("\r") == [
        "BHS|^~\\&|BROKER|RAD|EHR|H|20260302||ADT||A1|B1",
        "ACK1",
        "ACK2",
        "BTS|2|BTS-1 says 3, there are 2 messages",
        "",
    ]


def test_a_file_is_answered_with_a_file() -> None:
    found = tally(FHS + BHS + MSG.format(1) + "BTS|1\r" + BHS + MSG.format(2) + "BTS|1\rFTS|2\r")
    found.close()
    assert found.answer("20260302", "A1").decode().split("\r") == [
        "FHS|^~\\&|BROKER|RAD|EHR|H|20260302||night.hl7||A1|F1",
        "BHS|^~\\&|BROKER|RAD|EHR|H|20260302||ADT||A1.1|B1",
        "ACK1",
        "BTS|1",
        "BHS|^~\\&|BROKER|RAD|EHR|H|20260302||ADT||A1.2|B1",
        "ACK1",
        "BTS|1",
        "FTS|2",
        "",
    ]


def test_the_answer_is_written_in_the_delimiters_of_the_batch() -> None:
    found = tally("BHS!*+%$!EHR!H!B!R\rMSH!*+%$!A\rBTS!1\r")
    found.close()
    assert found.answer("2026", "A1") == b"BHS!*+%$!B!R!EHR!H!2026!!!!A1\rACK1\rBTS!1\r"


def test_messages_without_a_header_are_answered_as_one_batch() -> None:
    found = tally(MSG.format(1) + MSG.format(2))
    found.close()
    assert found.answer("2026", "A1") == b"BHS|^~\\&|||||2026||||A1\rACK1\rACK2\rBTS|2\r"


def test_a_part_is_kind_and_bytes() -> None:
    assert list(parts(b"BTS|0\r")) == [Part("BTS", b"BTS|0\r")]
