"""Texts in a worklist answer that the character set asked for does not have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from broker.dicom.charset import charset_of, fits, write_in
from broker.dicom.dataset import decode, encode

SYNTAX = "1.2.840.10008.1.2.1"


def entry(name: str, description: str = "") -> Dataset:
    ds = Dataset()
    ds.PatientName, ds.RequestedProcedureDescription = name, description
    return ds


def test_what_does_not_fit_is_written_with_the_nearest_letters() -> None:
    ds = entry("NOVÁK^Žofie", "Schädel – groß")
    ds.OtherPatientNames = ["É", "plain"]
    write_in(ds, [()])
    assert (str(ds.PatientName), [str(n) for n in ds.OtherPatientNames]) == ("NOVAK^Zofie", ["E", "plain"])
    assert ds.RequestedProcedureDescription == "Schadel - gross"
    assert "SpecificCharacterSet" not in ds


@pytest.mark.parametrize(
    ("sets", "unencodable", "charset", "name"),
    [
        ([("ISO_IR 100",)], "transliterate", ["ISO_IR 100"], "Lódz"),
        ([("ISO_IR 100",)], "unicode", ["ISO_IR 192"], "Łódź"),
        ([("ISO_IR 100",), ("ISO_IR 101",)], "transliterate", ["ISO_IR 101"], "Łódź"),
        ([("ISO 2022 IR 100", "ISO 2022 IR 101")], "transliterate", ["ISO 2022 IR 100", "ISO 2022 IR 101"], "Łódź"),
    ],
)
def test_a_set_that_holds_it_comes_first(sets: list[tuple[str, ...]], unencodable: str, charset: list[str], name: str) -> None:
    ds = entry("Łódź")
    write_in(ds, sets, unencodable)
    assert (charset_of(ds), str(ds.PatientName)) == (charset, name)


@pytest.mark.parametrize(
    "description",
    [
        "山田",
        "ß" * 64,  # its nearest letters are too many for LO
        "a＼b",  # its nearest letter is the backslash, which would make two values of it
    ],
)
def test_what_has_no_nearest_letters_takes_all_to_unicode(description: str) -> None:
    ds = entry("Müller", description)
    write_in(ds, [("ISO_IR 6",)])
    assert (charset_of(ds), str(ds.PatientName), ds.RequestedProcedureDescription) == (["ISO_IR 192"], "Müller", description)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="\\^="), max_size=12)
SETS = st.sampled_from(
    [(), ("ISO_IR 100",), ("ISO_IR 144",), ("ISO_IR 13",), ("", "ISO 2022 IR 87"), ("", "ISO 2022 IR 149"), ("GB18030",)]
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(TEXT, TEXT, SETS)
def test_nothing_is_ever_lost_silently(family: str, given_name: str, terms: tuple[str, ...]) -> None:
    ds = entry(f"{family}^{given_name}", family)
    write_in(ds, [terms])
    held = charset_of(ds)
    assert all(fits(text, held) for text in (str(ds.PatientName), ds.RequestedProcedureDescription))
    again = decode(encode(ds, SYNTAX), SYNTAX)
    assert str(again.PatientName).rstrip("^") == str(ds.PatientName).rstrip("^")
    assert str(ds.PatientName).count("?") == (family + given_name).count("?")
