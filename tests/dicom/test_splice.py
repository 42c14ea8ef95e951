"""Headers changed in their bytes: the same as what `coerce` makes of them, for whatever it takes on."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

from broker.dicom.coerce import coerce
from broker.dicom.dataset import BIG_ENDIAN, DEFLATED, EXPLICIT_LITTLE, decode, encode, silence_libraries
from broker.dicom.splice import splice
from tests.dicom.objects import ct, dataset_bytes

silence_libraries()
NOTE = {"reason": "COERCE", "system": "BROKER", "now": "20260302101112.000000+0000"}
SIMPLE = {
    "PatientID": "9",
    "IssuerOfPatientID": "GENHOSP",  # absent before
    "PatientName": "ROE^RICHARD",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",  # as it is
    "AccessionNumber": "A00000001",
    "StudyInstanceUID": "1.2.3",
    "StudyDescription": "",
}


def spliced(ds: Dataset, changes: dict[str, str], syntax: str = EXPLICIT_LITTLE, removals: tuple[str, ...] = ()) -> bytes | None:
    """Return the whole dataset after the changes; None when they are not simple."""
    data = dataset_bytes(ds, implicit=syntax == ImplicitVRLittleEndian)
    found = splice(data, syntax, changes, whole=True, removals=removals, **NOTE)
    return None if found is None else found[0] + data[found[1] :]


def coerced(ds: Dataset, changes: dict[str, str], syntax: str = EXPLICIT_LITTLE, removals: tuple[str, ...] = ()) -> bytes:
    data = dataset_bytes(ds, implicit=syntax == ImplicitVRLittleEndian)
    from pydicom.filereader import read_dataset

    header = read_dataset(BytesIO(data), syntax == ImplicitVRLittleEndian, True)
    return encode(coerce(header, changes, removals=removals, **NOTE), syntax)


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, ImplicitVRLittleEndian, JPEG2000Lossless])
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", ""])
def test_simple_changes_give_the_bytes_that_the_library_gives(syntax: str, charset: str) -> None:
    ds = ct(charset=charset)
    if not charset:
        del ds.SpecificCharacterSet
    assert spliced(ds, SIMPLE, syntax) == coerced(ds, SIMPLE, syntax)


def test_a_second_note_follows_the_first() -> None:
    ds = decode(coerced(ct(), {"PatientID": "7"}), EXPLICIT_LITTLE)
    once = spliced(ds, SIMPLE)
    assert once is not None
    assert once == coerced(ds, SIMPLE)
    assert len(decode(once, EXPLICIT_LITTLE).OriginalAttributesSequence) == 2


def test_sequences_of_undefined_length_are_passed_over_and_kept() -> None:
    ds = ct()
    ds.RequestAttributesSequence[0].ScheduledProtocolCodeSequence = Sequence([Dataset()])
    ds["RequestAttributesSequence"].is_undefined_length = True
    ds.RequestAttributesSequence[0]["ScheduledProtocolCodeSequence"].is_undefined_length = True
    ds.RequestAttributesSequence[0].is_undefined_length_sequence_item = True
    assert b"\xff\xff\xff\xff" in dataset_bytes(ds)
    got = spliced(ds, SIMPLE)
    assert got is not None
    assert decode(got, EXPLICIT_LITTLE) == decode(coerced(ds, SIMPLE), EXPLICIT_LITTLE)
    assert got.count(b"\xff\xff\xff\xff") == dataset_bytes(ds).count(b"\xff\xff\xff\xff")


def test_what_is_as_it_shall_be_stays_as_it_is() -> None:
    ds = ct()
    assert spliced(ds, {"PatientID": "4711", "StudyDate": "20260302"}) == dataset_bytes(ds)


def test_what_goes_away_is_kept_as_an_original() -> None:
    ds = ct()
    got = spliced(ds, {"PatientName": "", "PatientSex": "", "StudyDescription": ""}, removals=("PatientName", "StudyDescription"))
    assert got == coerced(ds, {"PatientName": "", "PatientSex": "", "StudyDescription": ""}, removals=("PatientName", "StudyDescription"))
    assert got is not None
    assert "PatientName" not in decode(got, EXPLICIT_LITTLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": "5"},
        {"InstanceNumber": "3"},
        {"RequestAttributesSequence.RequestedProcedureID": "R2"},
        {'(0009,"BROKER TEST",10)': "x"},
        {"SpecificCharacterSet": "ISO_IR 192"},
        {"PatientName": "ИВАНОВ^ИВАН"},
        {"PatientID": "Ж"},
        {"Nothing": "x"},
        {"PatientComments": "x" * 70_000},
        {"PatientID": "\x1b$B"},
    ],
)
def test_what_is_not_simple_is_left_to_the_library(changes: dict[str, str]) -> None:
    assert spliced(ct(), changes) is None


@pytest.mark.parametrize("charset", ["ISO 2022 IR 100", "\\ISO 2022 IR 87", "ISO_IR 100\\ISO 2022 IR 126"])
def test_character_sets_with_escapes_are_left_to_the_library(charset: str) -> None:
    ds = ct()
    ds.SpecificCharacterSet = charset.split("\\")
    assert spliced(ds, SIMPLE) is None


@pytest.mark.parametrize("syntax", [BIG_ENDIAN, DEFLATED])
def test_big_endian_and_deflated_are_left_to_the_library(syntax: str) -> None:
    assert splice(dataset_bytes(ct()), syntax, SIMPLE, whole=True, **NOTE) is None


def test_a_header_whose_end_is_not_in_sight_is_left_to_the_library() -> None:
    data = dataset_bytes(ct())
    assert splice(data[:400], EXPLICIT_LITTLE, SIMPLE, whole=False, **NOTE) is None


def test_only_the_first_bytes_are_needed() -> None:
    data = dataset_bytes(ct(512))
    found = splice(data[:4096], EXPLICIT_LITTLE, SIMPLE, whole=False, **NOTE)
    assert found is not None
    assert found[0] + data[found[1] :] == coerced(decode(data, EXPLICIT_LITTLE), SIMPLE)


_NAMES = ("PatientID", "PatientName", "AccessionNumber", "StudyDescription", "PatientBirthDate", "ReferringPhysicianName", "StudyID")


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(_NAMES), st.text("ABC^=äéЖ 1", max_size=12)),
    removals=st.sets(st.sampled_from(_NAMES)),
    implicit=st.booleans(),
    charset=st.sampled_from(["ISO_IR 100", "ISO_IR 144", "ISO_IR 192", "GB18030"]),
)
def test_whatever_it_takes_on_ends_as_with_the_library(changes: dict[str, str], removals: set[str], implicit: bool, charset: str) -> None:
    syntax = str(ImplicitVRLittleEndian) if implicit else EXPLICIT_LITTLE
    ds = ct(charset=charset)
    got = spliced(ds, changes, syntax, tuple(removals & changes.keys()))
    if got is not None:
        assert decode(got, syntax) == decode(coerced(ds, changes, syntax, tuple(removals & changes.keys())), syntax)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 900), what=st.binary(min_size=1, max_size=6))
def test_damaged_headers_raise_nothing(at: int, what: bytes) -> None:
    data = bytearray(dataset_bytes(ct()))
    data[at : at + len(what)] = what
    splice(bytes(data), EXPLICIT_LITTLE, SIMPLE, whole=True, **NOTE)


def test_who_sent_it_is_the_source_of_what_was_there() -> None:
    data = dataset_bytes(ct())
    said = {"reason": "COERCE", "system": "BROKER", "now": "20260302080000"}
    found = splice(data, EXPLICIT_LITTLE, {"PatientID": "9"}, whole=True, source="CT1", **said)
    assert found is not None
    head, end = found
    [note] = decode(head + data[end:], EXPLICIT_LITTLE).OriginalAttributesSequence
    assert note.SourceOfPreviousValues == "CT1"
