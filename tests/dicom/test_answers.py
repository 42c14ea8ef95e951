"""Answers to a query, written without a dataset in between: read back, they say what was known, in every syntax and set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.dicom.answers import Answers, charsets_of, keys_of
from broker.dicom.dataset import decode, encode

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
KNOWN = {
    "PatientName": "DOE^JANE",
    "PregnancyStatus": "3",
    "StudyInstanceUID": "1.2.3",
    "Allergies": "Nuts\\Iodine",
    "Seq.Modality": "CT",
    "Seq.Codes.CodeValue": "C1",
    "Seq.Codes.CodeMeaning": "Chest",
    "ReferencedStudySequence.ReferencedSOPInstanceUID": "",
}
_LONG = {"Seq": "ScheduledProcedureStepSequence", "Codes": "ScheduledProtocolCodeSequence"}


def written_out(path: str) -> str:
    return ".".join(_LONG.get(part, part) for part in path.split("."))


def readers(known: Mapping[str, str]) -> dict[str, Any]:
    return {written_out(path): lambda match, path=path: match.get(path, "") for path in known}


def asked(*keywords: str, **items: Any) -> Dataset:
    identifier = Dataset()
    for keyword in keywords:
        setattr(identifier, keyword, None)
    for name, item in items.items():
        setattr(identifier, written_out(name), item)
    return identifier


def answer(
    identifier: Dataset,
    known: Mapping[str, str],
    *,
    sets: list[tuple[str, ...]] | None = None,
    unencodable: str = "transliterate",
    syntax: str = IMPLICIT,
) -> Dataset:
    answers = Answers[Mapping[str, str]](identifier, readers(KNOWN), sets or [("ISO_IR 192",)], unencodable, syntax)
    data = answers.write(known)
    dataset = decode(data, syntax)
    assert encode(dataset, syntax) == data  # as pydicom writes it
    return dataset


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_what_is_asked_for_is_there_and_nothing_else(syntax: str) -> None:
    step = asked("Modality", "ScheduledProcedureStepID", Codes=[])
    identifier = asked(
        "PatientName", "PatientComments", "PregnancyStatus", "StudyInstanceUID", "Allergies", "ReferencedStudySequence", Seq=[step]
    )
    found = answer(identifier, KNOWN, syntax=syntax)
    assert [element.keyword for element in found] == ["SpecificCharacterSet", *(element.keyword for element in identifier)]
    assert (str(found.PatientName), found.PregnancyStatus, found.StudyInstanceUID) == ("DOE^JANE", 3, "1.2.3")
    assert list(found.Allergies) == ["Nuts", "Iodine"]
    assert found.PatientComments in ("", None)
    assert len(found.ReferencedStudySequence) == 0  # nothing in it is known
    (item,) = found.ScheduledProcedureStepSequence
    assert (item.Modality, item.ScheduledProcedureStepID or "") == ("CT", "")
    assert item.ScheduledProtocolCodeSequence[0].CodeMeaning == "Chest"


def test_an_empty_sequence_asks_for_all_of_it() -> None:
    (item,) = answer(asked(Seq=[]), KNOWN).ScheduledProcedureStepSequence
    assert (item.Modality, item.ScheduledProtocolCodeSequence[0].CodeValue) == ("CT", "C1")
    assert len(answer(asked("ReferencedPatientSequence"), KNOWN).ReferencedPatientSequence) == 0


def test_what_is_empty_is_there_and_empty() -> None:
    found = answer(asked("PatientName", "PregnancyStatus", Seq=[asked("Modality")]), {})
    assert (str(found.PatientName), found.PregnancyStatus) == ("", None)
    assert len(found.ScheduledProcedureStepSequence) == 0


@pytest.mark.parametrize(
    ("name", "sets", "unencodable", "charset", "written"),
    [
        ("MÜLLER", [("ISO_IR 100",)], "transliterate", "ISO_IR 100", "MÜLLER"),
        ("MÜLLER", [("ISO_IR 192",)], "transliterate", "ISO_IR 192", "MÜLLER"),
        ("Zoě", [("ISO_IR 100",), ("ISO_IR 101",)], "transliterate", "ISO_IR 101", "Zoě"),
        ("Zoě", [("ISO_IR 100",)], "transliterate", "ISO_IR 100", "Zoe"),
        ("Zoě", [("ISO_IR 100",)], "unicode", "ISO_IR 192", "Zoě"),
        ("山", [("ISO_IR 100",)], "transliterate", "ISO_IR 192", "山"),
        ("ヤマダ=山田", [("", "ISO 2022 IR 87")], "transliterate", ["", "ISO 2022 IR 87"], None),
        ("DOE", [("ISO 2022 IR 6", "ISO 2022 IR 87")], "transliterate", ["ISO 2022 IR 6", "ISO 2022 IR 87"], "DOE"),
    ],
)
def test_character_sets(name: str, sets: list[tuple[str, ...]], unencodable: str, charset: Any, written: str | None) -> None:
    identifier = asked("PatientName", "PregnancyStatus", Seq=[asked("Modality", Codes=[])])
    found = answer(identifier, {**KNOWN, "PatientName": name}, sets=sets, unencodable=unencodable)
    assert found.SpecificCharacterSet == charset
    assert written is None or str(found.PatientName) == written
    assert found.PregnancyStatus == 3


def test_the_set_asked_for_comes_before_the_peers() -> None:
    identifier = asked("PatientName")
    assert charsets_of(identifier, ()) == [("ISO_IR 192",)]
    assert charsets_of(identifier, ("ISO_IR 100",)) == [("ISO_IR 100",)]
    identifier.SpecificCharacterSet = "ISO_IR 144"
    assert charsets_of(identifier, ("ISO_IR 100",)) == [("ISO_IR 144",), ("ISO_IR 100",)]
    identifier.SpecificCharacterSet = "nonsense"
    assert charsets_of(identifier, ()) == [("ISO_IR 192",)]


def test_keys_are_read_by_path() -> None:
    identifier = asked("PatientID", Seq=[asked(Codes=[asked("CodeValue")])])
    identifier.StudyInstanceUID = ["1.2", "1.3"]
    identifier.ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence[0].CodeValue = "C*"
    keys = keys_of(identifier)
    assert keys == {"PatientID": "", "StudyInstanceUID": "1.2\\1.3", written_out("Seq.Codes.CodeValue"): "C*"}
