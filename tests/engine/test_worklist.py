"""The modality worklist from the order to the encoded entries, without a wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.connectors.base import WorklistTerms
from broker.dicom.dataset import decode, encode, put
from broker.engine import worklist
from broker.errors import MessageError
from tests.engine.house import CT1, ROOT, House

EXPLICIT = "1.2.840.10008.1.2.1"
STEP = "ScheduledProcedureStepSequence."


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def order(house: House, number: int = 1, *more: str, **fields: str) -> None:
    """Place an order for a patient of its own; `more` are further segments."""
    message = (ROOT / "samples/orm_ct.hl7").read_text().replace("\n", "\r")
    for known, own in {"4711": f"47{number}", "|P1^": f"|P{number}^", "|P1|": f"|P{number}|", **fields}.items():
        message = message.replace(known, own)
    message = message.replace("MSG", f"MSG{number}.") + "".join(f"{segment}\r" for segment in more)
    assert "|AA|" in house.say(message.replace("|ORM^O01|", f"|ORM^O01|{number}"))


def asked(**keys: str) -> Dataset:
    identifier = Dataset()
    for path in ("AccessionNumber", "PatientName", "PatientID", "Allergies", "PatientWeight", STEP + "ScheduledStationAETitle"):
        put(identifier, path, "")
    for path, key in keys.items():
        put(identifier, path.replace("__", "."), key)
    return identifier


def pages(house: House, identifier: Dataset | None = None, **terms: Any) -> tuple[list[list[Dataset]], bool]:
    """Return the entries of each page, and whether there were too many."""
    search = house.dicom.find_worklist(CT1, encode(identifier or asked(), EXPLICIT), EXPLICIT, WorklistTerms(**terms))
    found = []
    while entries := house.wait(search.page()):
        found.append([decode(entry, EXPLICIT) for entry in entries])
    return found, search.exceeded


def found(house: House, identifier: Dataset | None = None, **terms: Any) -> list[str]:
    return [entry.PatientID for page in pages(house, identifier, **terms)[0] for entry in page]


def test_what_the_order_says_of_its_patient_is_shown(house: House) -> None:
    order(house, 1, "AL1|1|DA|^Iodine", "AL1|2|MC|^Pacemaker", "OBX|1|NM|29463-7^Body weight^LN||80.5|kg")
    ((entry,),), exceeded = pages(house)
    assert (entry.AccessionNumber, entry.Allergies, float(entry.PatientWeight), exceeded) == ("A00000001", "Iodine", 80.5, False)
    assert entry.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT1"


def test_pages_and_the_limit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "PAGE", 2)
    for number in range(1, 6):
        order(house, number)
    shown, exceeded = pages(house)
    assert ([len(page) for page in shown], exceeded) == ([2, 2, 1], False)
    shown, exceeded = pages(house, most=4)
    assert ([len(page) for page in shown], exceeded) == ([2, 2], True)
    assert pages(house, most=5)[1] is False
    assert found(house, asked(PatientID="473")) == ["473"]


def test_a_wildcard_looks_on_until_something_fits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "SCANNED", 1)
    for number in range(1, 5):
        order(house, number)
    shown, _ = pages(house, asked(PatientID="47[3-9]*"))
    assert shown == []  # brackets are no wildcard
    assert found(house, asked(PatientID="*4")) == ["474"]
    assert pages(house, asked(PatientID="47?"), most=2) == ([[pages(house)[0][0][0]], [pages(house)[0][0][1]]], True)


def test_a_step_whose_start_moves_between_two_pages_is_shown_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "PAGE", 1)
    order(house, 1)
    order(house, 2)
    search = house.dicom.find_worklist(CT1, encode(asked(), EXPLICIT), EXPLICIT, WorklistTerms())
    assert len(house.wait(search.page())) == 1
    house.wait(house.db.run("test", lambda tx: tx.execute("update steps set start = '209912310800' where id = 1")))
    assert len(house.wait(search.page())) == 1
    assert house.wait(search.page()) == []


def test_the_same_question_is_answered_from_what_was_written_and_anew_when_it_changed(house: House) -> None:
    order(house)
    assert found(house) == found(house) == ["471"]
    house.wait(house.db.run("test", lambda tx: tx.execute("update patients set family = 'ROE'")))
    ((entry,),), _ = pages(house)
    assert entry.PatientName.family_name == "ROE"


def test_the_terms_of_the_caller(house: House) -> None:
    order(house)
    assert found(house, stations=("CT1",)) == ["471"]
    assert found(house, stations=("MR1",)) == []
    assert found(house, asked(ScheduledProcedureStepSequence__ScheduledStationAETitle="ROOM7")) == []
    assert found(house, asked(ScheduledProcedureStepSequence__ScheduledStationAETitle="ROOM7"), stations=("CT1",)) == ["471"]
    assert found(house, modality="MR") == []
    assert found(house, past=0.0, ahead=0.0) == ["471"]  # it is for today
    house.at += 86400
    assert found(house, past=0.0) == []
    assert found(house, past=86400.0) == ["471"]
    house.at -= 2 * 86400
    assert found(house, ahead=0.0) == []


def test_what_has_begun_is_listed_on_demand(house: House) -> None:
    order(house)
    house.wait(
        house.db.run(
            "test", lambda tx: (tx.execute("update steps set status = 'started'"), tx.execute("update exams set status = 'in_progress'"))
        )
    )
    assert found(house) == []
    assert found(house, started=True) == ["471"]


def test_what_was_shown_is_on_the_timeline_once(house: House) -> None:
    order(house)
    found(house)
    found(house)
    assert house.rows("select accession, target from audit_note where what = 'worklist'") == [("A00000001", "CT1")]
    assert house.count("broker_messages_received_total", listener="modalities", kind="C-FIND") == 2


def test_an_identifier_that_cannot_be_read_is_refused(house: House) -> None:
    with pytest.raises(MessageError):
        house.dicom.find_worklist(CT1, b"\x40\0\0\x01\xff\xff\xff\xff\xfe\xff\x00\xe0", "1.2.840.10008.1.2", WorklistTerms())
