"""Names, updates and times."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.ris import times
from broker.ris.changes import text, updated
from broker.ris.entities import Composite, Order, Patient
from broker.ris.names import component, dicom_date, dicom_priority, dicom_sex, fitted, patient_to_pn, pn, unescape, xcn_to_pn


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


def test_a_pn_has_at_most_64_characters() -> None:
    assert pn("A" * 70, "B") == "A" * 64
    assert pn("A" * 63, "B") == "A" * 63


@pytest.mark.parametrize(
    ("sent", "written"),
    [("short", "short"), ("two\nlines\\and a tab\t", "two lines and a tab"), ("x" * 70, "x" * 64), ("y" * 63 + " z", "y" * 63), ("", "")],
)
def test_text_is_cut_to_what_its_vr_holds(sent: str, written: str) -> None:
    assert fitted(sent, 64) == written


@pytest.mark.parametrize(
    ("sent", "written"), [("19610615", "19610615"), ("1961", ""), ("196106", ""), ("19611399", ""), ("1961061A", ""), ("", "")]
)
def test_only_a_whole_date_is_one_for_dicom(sent: str, written: str) -> None:
    assert dicom_date(sent) == written


@pytest.mark.parametrize(("priority", "written"), [("STAT", "STAT"), ("ASAP", "HIGH"), ("ROUTINE", "ROUTINE"), ("", "")])
def test_priority_by_the_terms_of_dicom(priority: str, written: str) -> None:
    assert dicom_priority(priority) == written


@pytest.mark.parametrize(
    ("sent", "here"),
    [
        ("202603021000", "202603021000"),
        ("202603021000+0100", "202603021000"),
        ("20260302230000.123-0500", "20260303050000.123"),
        ("2026070210+0000", "2026070212"),  # summer time there
        ("20260302+0100", "20260302+0100"),  # a day has no zone
        ("202613021000+0100", "202613021000+0100"),
        ("", ""),
        ('""', '""'),
    ],
)
def test_a_time_with_an_offset_becomes_local_time(sent: str, here: str) -> None:
    assert times.localized(sent, ZoneInfo("Europe/Berlin")) == here
