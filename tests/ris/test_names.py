"""Names, updates and times."""

from __future__ import annotations

from datetime import datetime

import pytest

from broker.ris import times
from broker.ris.changes import text, updated
from broker.ris.entities import Composite, Order, Patient
from broker.ris.names import component, dicom_sex, patient_to_pn, pn, unescape, xcn_to_pn


@pytest.mark.parametrize(
    ("xcn", "name"),
    [
        ("", ""),
        ("7", ""),
        ("7^GREY", "GREY"),
        ("7^GREY^MEREDITH^E^JR^DR^MD", "GREY^MEREDITH^E^DR^JR MD"),
        ("7^GREY&VAN^MEREDITH", "GREY^MEREDITH"),
        ("7^GREY^MEREDITH~8^YANG^CRISTINA", "GREY^MEREDITH"),
        ("7^GR\\S\\EY^O\\T\\B", "GR EY^O&B"),
        ("7^GREY^^^^DR", "GREY^^^DR"),
    ],
)
def test_xcn_to_pn(xcn: str, name: str) -> None:
    assert xcn_to_pn(Composite(xcn)) == name


def test_patient_to_pn() -> None:
    assert patient_to_pn(Patient(family="DOE", given="JANE", middle="Q", prefix="DR", suffix="III")) == "DOE^JANE^Q^DR^III"
    assert patient_to_pn(Patient(family="DOE")) == "DOE"
    assert patient_to_pn(Patient()) == ""


@pytest.mark.parametrize("bad", ["A^B", "A=B", "A\\B", "A\nB", "A\x00=B"])
def test_what_a_pn_cannot_hold_becomes_a_blank(bad: str) -> None:
    assert pn(bad, "C") == "A B^C"


@pytest.mark.parametrize(
    ("escaped", "plain"), [("a", "a"), ("\\F\\\\S\\\\T\\\\R\\\\E\\", "|^&~\\"), ("a\\.br\\b\\X0D\\c", "abc"), ("a\\b", "a\\b")]
)
def test_unescape(escaped: str, plain: str) -> None:
    assert unescape(escaped) == plain


def test_component() -> None:
    assert component("4711^^^HOSP&1.2&ISO", 4, 2) == "1.2"
    assert component("4711", 4) == component("4711^^^HOSP", 4, 2) == ""


@pytest.mark.parametrize(("hl7", "dicom"), [("M", "M"), ("f", "F"), ("O", "O"), ("A", "O"), ("U", ""), ("N", ""), ("", "")])
def test_sex(hl7: str, dicom: str) -> None:
    assert dicom_sex(hl7) == dicom


def test_updated() -> None:
    order = Order(reason="cough", diagnoses=("R05",), provider=Composite("7^GREY"))
    assert updated(order, reason="", diagnoses=(), provider="") is order
    assert updated(order, reason="cough") is order
    assert updated(order, reason='""').reason == ""
    assert updated(order, diagnoses=('""',)).diagnoses == ()
    cleared = updated(order, provider=Composite('""')).provider
    assert (cleared, type(cleared)) == ("", Composite)
    assert text('""') == text("") == ""


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("20260302", datetime(2026, 3, 2)),
        ("2026030208", datetime(2026, 3, 2, 8)),
        ("202603020815", datetime(2026, 3, 2, 8, 15)),
        ("20260302081559.123+0100", datetime(2026, 3, 2, 8, 15)),
        ("20261302", None),
        ("202603022460", None),
        ("2026", None),
        ("", None),
        ("tomorrow", None),
    ],
)
def test_read(written: str, time: datetime | None) -> None:
    assert times.read(written) == time


def test_write_pads() -> None:
    assert times.write(datetime(26, 3, 2, 8, 5)) == "002603020805"


@pytest.mark.parametrize(("time", "grid", "after"), [("0800", 5, "0800"), ("0801", 5, "0805"), ("2359", 5, "0000"), ("0801", 1, "0801")])
def test_ceil(time: str, grid: int, after: str) -> None:
    moment = times.read("20260302" + time)
    assert moment is not None
    assert times.write(times.ceil(moment, grid))[8:] == after
