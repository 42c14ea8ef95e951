"""What a VR allows."""

from __future__ import annotations

import pytest
from pydicom import config
from pydicom.valuerep import validate_value

from broker.dicom.standard import Attribute, attribute, fault

RIGHT = [
    ("SH", "A00000001"),
    ("SH", "x" * 16),
    ("SH", "a\\b"),
    ("SH", " padded " + " " * 20),
    ("LO", "x" * 64),
    ("AE", "CT 1"),
    ("CS", "CT_1 A"),
    ("DA", "20260302"),
    ("TM", "14"),
    ("TM", "143000.123456"),
    ("DT", "2026"),
    ("DT", "20260302143000.1+0100"),
    ("UI", "1.2.840.10008.1.1"),
    ("IS", "-12"),
    ("DS", "1.5e-3"),
    ("AS", "045Y"),
    ("PN", "DOE^JANE"),
    ("PN", "A^B^C^D^E=F=G"),
    ("PN", f"{'x' * 64}={'y' * 64}"),
    ("LT", "a\\b"),
    ("UT", "x" * 100000),
    ("SQ", "anything"),
]
WRONG = [
    ("SH", "x" * 17, "16 characters"),
    ("SH", "ok\\" + "x" * 17, "16 characters"),
    ("LO", "x" * 65, "64 characters"),
    ("LO", "a\nb", "control"),
    ("AE", "x" * 17, "16"),
    ("AE", "CTÄ", "ASCII"),
    ("CS", "ct", "capital"),
    ("CS", "A-B", "capital"),
    ("CS", "X" * 17, "16"),
    ("DA", "2026-03-02", "20260302"),
    ("DA", "20261302", "20260302"),
    ("TM", "14:30", "143000"),
    ("TM", "25", "143000"),
    ("DT", "x", "20260302"),
    ("UI", "1.02", "1.2.840"),
    ("UI", "1." + "2" * 64, "64"),
    ("IS", "1.5", "whole"),
    ("IS", "1" * 13, "12"),
    ("DS", "x", "decimal"),
    ("AS", "45", "045Y"),
    ("PN", "x" * 65, "64 characters"),
    ("PN", "a=b=c=d", "three"),
    ("PN", "a^b^c^d^e^f", "five"),
    ("ST", "x" * 1025, "1024"),
]


@pytest.mark.parametrize(("vr", "text"), RIGHT)
def test_what_a_vr_can_hold(vr: str, text: str) -> None:
    assert fault(vr, text) == ""


@pytest.mark.parametrize(("vr", "text", "says"), WRONG)
def test_what_a_vr_cannot_hold(vr: str, text: str, says: str) -> None:
    assert says in fault(vr, text)


@pytest.mark.parametrize(
    ("vr", "text"), [(vr, text) for vr, text in RIGHT if "\\" not in text and len(text) < 64 and not text.startswith(" ")]
)
def test_pydicom_takes_what_is_right(vr: str, text: str) -> None:
    validate_value(vr, text, config.RAISE)
    assert fault(vr, text) == ""


@pytest.mark.parametrize(
    ("vr", "text"), [(vr, text) for vr, text, says in WRONG if vr not in ("ST", "DT", "PN") and says not in ("ASCII", "control")]
)
def test_pydicom_refuses_what_is_wrong(vr: str, text: str) -> None:
    with pytest.raises(ValueError, match=vr):
        validate_value(vr, text.rpartition("\\")[2], config.RAISE)


def test_an_attribute_by_its_keyword() -> None:
    assert attribute("AccessionNumber") == Attribute("AccessionNumber", "Accession Number", "SH", "1")
    assert attribute("ScheduledProcedureStepSequence.Modality") == Attribute("Modality", "Modality", "CS", "1")
    assert attribute("AccesionNumber") is None
