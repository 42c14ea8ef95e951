"""Images that wait to be sent leave under the patient's right name and identifier, whatever it was when they came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.test_corrections import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.stage.close()


def hear(desk: Desk, message: str) -> None:
    """Let the hospital say something that is accepted."""
    raw = message.replace("\n", "\r").encode()
    assert b"MSA|AA" in desk.stage.wait(desk.stage.hl7.receive_hl7("hospital", "127.0.0.1:1", raw))
    desk.stage.settle()


def back(desk: Desk) -> None:
    desk.archive.up = True
    desk.stage.clock.advance(600)
    desk.stage.settle()


HEAD = "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080100||ADT^{}|ADT-{}|P|2.3.1\nEVN|{}|20260302080100\n"


def test_a_new_name(desk: Desk) -> None:
    accession = desk.order()
    desk.archive.up = False
    first, second = desk.store(accession=accession), desk.store(accession=accession)
    hear(desk, HEAD.format("A08", 1, "A08") + "PID|1||4711^^^GENHOSP^MR||ROE^JANE^Q||19700412|F\nPV1|1|O")
    back(desk)
    got = desk.got()
    assert [one.SOPInstanceUID for one in got] == [first.SOPInstanceUID, second.SOPInstanceUID]  # each in its place, and once
    assert {str(one.PatientName) for one in got} == {"ROE^JANE^Q"}
    assert len(desk.rows("select id from delivery where kind = 'C-STORE'")) == 2


def test_a_merge(desk: Desk) -> None:
    accession = desk.order()
    desk.archive.up = False
    desk.store(accession=accession)
    hear(desk, HEAD.format("A40", 2, "A40") + "PID|1||9000^^^GENHOSP^MR||DOE^JANE^Q||19700412|F\nMRG|4711^^^GENHOSP^MR")
    back(desk)
    assert [one.PatientID for one in desk.got()] == ["9000"]


def test_what_the_archive_has_is_not_sent_again(desk: Desk) -> None:
    accession = desk.order()
    desk.store(accession=accession)
    assert len(desk.got()) == 1
    hear(desk, HEAD.format("A08", 3, "A08") + "PID|1||4711^^^GENHOSP^MR||ROE^JANE^Q||19700412|F\nPV1|1|O")
    assert desk.got() == []
