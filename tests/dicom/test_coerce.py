"""Attributes set on the way out: the new values, the originals, the character set, and all else untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.dicom.charset import fits, is_known, to_unicode
from broker.dicom.coerce import coerce
from broker.dicom.dataset import encode_header, read_header
from broker.dicom.files import file_meta
from broker.errors import MessageError
from tests.dicom.objects import ct, part10

NOW = "20260302080000.000000+0100"


def coerced(tmp_path: Path, ds: Dataset, changes: dict[str, str], *, times: int = 1, raw: bytes | None = None) -> Dataset:
    """Return the object as it leaves, read by pydicom."""
    path = tmp_path / "a.dcm"
    path.write_bytes(raw or part10(ds))
    for _ in range(times):
        header, offset = read_header(path)
        header = coerce(header, changes, reason="COERCE", system="BROKER", now=NOW)
        body = encode_header(header, ExplicitVRLittleEndian) + path.read_bytes()[offset:]
        path.write_bytes(file_meta(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian) + body)
    return dcmread(path)


def test_the_new_value_is_set_and_the_original_kept(tmp_path: Path) -> None:
    ds = ct()
    got = coerced(tmp_path, ds, {"PatientID": "9", "AccessionNumber": "A2", "IssuerOfPatientID": "GENHOSP"})
    assert (got.PatientID, got.AccessionNumber, got.IssuerOfPatientID) == ("9", "A2", "GENHOSP")
    [note] = got.OriginalAttributesSequence
    assert note.AttributeModificationDateTime == NOW
    assert (note.ModifyingSystem, note.SourceOfPreviousValues, note.ReasonForTheAttributeModification) == ("BROKER", "", "COERCE")
    [originals] = note.ModifiedAttributesSequence
    assert (originals.PatientID, originals.AccessionNumber) == ("4711", "A1")
    assert originals.IssuerOfPatientID is None or originals.IssuerOfPatientID == ""
    assert len(originals) == 3


def test_everything_else_passes_bit_for_bit(tmp_path: Path) -> None:
    ds = ct(64)
    got = coerced(tmp_path, ds, {"PatientID": "9"})
    assert got.PixelData == ds.PixelData
    assert got[0x0009, 0x1001].value == bytes(range(256))
    assert got[0x0009, 0x1002].value == b"\x00\xff\x80\x7f"
    del got.OriginalAttributesSequence
    got.PatientID = "4711"
    assert got == ds


def test_setting_what_is_there_already_changes_nothing(tmp_path: Path) -> None:
    ds = ct()
    got = coerced(tmp_path, ds, {"PatientID": "4711", "RequestAttributesSequence.ScheduledProcedureStepID": "S1"})
    assert "OriginalAttributesSequence" not in got


def test_a_second_change_adds_a_second_note(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(ct()))
    header, _ = read_header(path)
    coerce(header, {"PatientID": "8"}, reason="COERCE", system="A", now=NOW)
    coerce(header, {"PatientID": "9"}, reason="CORRECT", system="B", now=NOW)
    kept = [(n.ModifyingSystem, n.ModifiedAttributesSequence[0].PatientID) for n in header.OriginalAttributesSequence]
    assert kept == [("A", "4711"), ("B", "8")]


def test_the_first_item_of_a_sequence_is_changed_and_the_whole_sequence_kept(tmp_path: Path) -> None:
    got = coerced(tmp_path, ct(), {"RequestAttributesSequence.ScheduledProcedureStepID": "S9"})
    assert got.RequestAttributesSequence[0].ScheduledProcedureStepID == "S9"
    assert got.RequestAttributesSequence[0].RequestedProcedureID == "R1"
    kept = got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].RequestAttributesSequence
    assert (kept[0].ScheduledProcedureStepID, kept[0].RequestedProcedureID) == ("S1", "R1")


def test_a_sequence_that_is_absent_is_made(tmp_path: Path) -> None:
    got = coerced(
        tmp_path, ct(), {"RequestedProcedureCodeSequence.CodeValue": "CTCHEST", "RequestedProcedureCodeSequence.CodeMeaning": "CT"}
    )
    [item] = got.RequestedProcedureCodeSequence
    assert (item.CodeValue, item.CodeMeaning) == ("CTCHEST", "CT")


def test_an_attribute_is_emptied(tmp_path: Path) -> None:
    got = coerced(tmp_path, ct(), {"PatientSex": "", "RequestAttributesSequence": ""})
    assert got.PatientSex == ""
    assert len(got.RequestAttributesSequence) == 0


def test_numbers_and_several_values_are_typed(tmp_path: Path) -> None:
    got = coerced(tmp_path, ct(), {"ImageType": "DERIVED\\SECONDARY", "Rows": "8", "InstanceNumber": "2", "PixelAspectRatio": "1\\1"})
    assert (list(got.ImageType), got.Rows, got.InstanceNumber, list(got.PixelAspectRatio)) == (["DERIVED", "SECONDARY"], 8, 2, [1, 1])


@pytest.mark.parametrize(
    ("changes", "where"), [({"Nonsense": "1"}, "Nonsense"), ({"PatientID.X": "1"}, "X"), ({"Rows": "MANY"}, "0028,0010")]
)
def test_what_cannot_be_set_is_said_without_the_value(tmp_path: Path, changes: dict[str, str], where: str) -> None:
    with pytest.raises(MessageError) as caught:
        coerced(tmp_path, ct(), changes)
    assert where in str(caught.value)
    assert "MANY" not in str(caught.value)


def test_text_that_fits_leaves_the_character_set_alone(tmp_path: Path) -> None:
    got = coerced(tmp_path, ct(name="MÜLLER^A"), {"PatientName": "ZOË^B"})
    assert (got.SpecificCharacterSet, str(got.PatientName)) == ("ISO_IR 100", "ZOË^B")


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "MÜLLER^ZOË"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"), ("ISO_IR 144", "ИВАНОВ")],
)
def test_text_that_does_not_fit_moves_the_whole_header_to_unicode(tmp_path: Path, charset: str, name: str) -> None:
    ds = ct(64, name=name)
    ds.SpecificCharacterSet = charset
    ds.StudyDescription = "plain"
    item = Dataset()
    item.RequestedProcedureDescription = name.split("=")[-1].replace("^", " ")
    ds.RequestAttributesSequence = [item]
    got = coerced(tmp_path, ds, {"StudyDescription": "Ελλάδα 山"})
    assert got.SpecificCharacterSet == "ISO_IR 192"
    assert str(got.PatientName) == name
    assert got.StudyDescription == "Ελλάδα 山"
    assert got.RequestAttributesSequence[0].RequestedProcedureDescription == item.RequestedProcedureDescription
    assert got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].StudyDescription == "plain"
    assert got.PixelData == ds.PixelData


def test_items_with_a_character_set_of_their_own_move_along(tmp_path: Path) -> None:
    ds = ct()
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.RequestedProcedureDescription = "ИВАН"
    ds.RequestAttributesSequence = [item]
    got = coerced(tmp_path, ds, {"PatientName": "山田"})
    assert got.RequestAttributesSequence[0].RequestedProcedureDescription == "ИВАН"
    assert "SpecificCharacterSet" not in got.RequestAttributesSequence[0]


def test_a_header_without_a_character_set_takes_no_accents_silently(tmp_path: Path) -> None:
    ds = ct()
    del ds.SpecificCharacterSet
    got = coerced(tmp_path, ds, {"PatientName": "MÜLLER"})
    assert (got.SpecificCharacterSet, str(got.PatientName)) == ("ISO_IR 192", "MÜLLER")


def test_text_that_is_not_valid_in_its_set_is_not_rewritten(tmp_path: Path) -> None:
    ds = ct(name="JANE", charset="ISO_IR 13")
    with pytest.raises(MessageError, match="PatientName"):
        coerced(tmp_path, ds, {"StudyDescription": "Zoë"}, raw=part10(ds).replace(b"JANE", b"\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("ABC", [], True),
        ("É", [], False),
        ("É", ["ISO_IR 100"], True),
        ("Ω", ["ISO_IR 100"], False),
        ("Ω", ["ISO_IR 192"], True),
        ("Yamada=山田", ["", "ISO 2022 IR 87"], True),
        ("É=Ω", ["ISO 2022 IR 100", "ISO 2022 IR 126"], True),
    ],
)
def test_whether_text_fits(text: str, terms: list[str], expected: bool) -> None:
    assert fits(text, terms) is expected


def test_known_terms() -> None:
    assert is_known(["ISO_IR 100"])
    assert is_known(["", "ISO 2022 IR 87"])
    assert not is_known(["latin-1"])


def changed(ds: Dataset, changes: dict[str, str], *removals: str) -> Dataset:
    """Return a header with changes; removals are emptied in `changes` too, as a route notes them."""
    wanted = {**changes, **dict.fromkeys(removals, "")}
    return coerce(ds, wanted, reason="COERCE", system="BROKER", now=NOW, removals=removals)


def with_steps(count: int) -> Dataset:
    ds = ct()
    ds.RequestAttributesSequence = []
    for number in range(1, count + 1):
        item = Dataset()
        item.ScheduledProcedureStepID = f"S{number}"
        ds.RequestAttributesSequence.append(item)
    return ds


def steps(ds: Dataset) -> list[str]:
    return [item.get("ScheduledProcedureStepID", "") for item in ds.get("RequestAttributesSequence", [])]


def test_any_item_of_a_sequence_is_changed() -> None:
    path = "RequestAttributesSequence[{}].ScheduledProcedureStepID"
    assert steps(changed(with_steps(2), {path.format(2): "X"})) == ["S1", "X"]
    assert steps(changed(with_steps(2), {path.format(3): "X"})) == ["S1", "S2", "X"]
    assert steps(changed(with_steps(2), {"(0040,0275)[1].(0040,0009)": "X"})) == ["X", "S2"]
    with pytest.raises(MessageError, match="there are 2 items"):
        changed(with_steps(2), {path.format(4): "X"})


def test_what_is_removed_is_gone_and_not_empty() -> None:
    got = changed(ct(), {}, "PatientName", "AccessionNumber", "RequestAttributesSequence")
    assert "PatientName" not in got
    assert "RequestAttributesSequence" not in got
    [originals] = got.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert "PatientName" in originals
    assert originals.AccessionNumber == "A1"


def test_items_are_removed_by_the_number_they_had() -> None:
    removed = changed(
        with_steps(4),
        {"RequestAttributesSequence[4].ScheduledProcedureStepID": "X"},
        "RequestAttributesSequence[1]",
        "RequestAttributesSequence[3]",
    )
    assert steps(removed) == ["S2", "X"]
    inner = changed(with_steps(2), {}, "RequestAttributesSequence[2].ScheduledProcedureStepID")
    assert steps(inner) == ["S1", ""]


@pytest.mark.parametrize(
    "path", ["PatientWeight", "RequestAttributesSequence[9]", "RequestAttributesSequence[9].RequestedProcedureID", '(0033,"NOBODY",10)']
)
def test_removing_what_is_not_there_changes_nothing(path: str) -> None:
    assert "OriginalAttributesSequence" not in changed(with_steps(1), {}, path)


def test_private_attributes_are_found_by_their_creator() -> None:
    ds = ct()
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    block.add_new(0x09, "LO", "old")
    path = '(0029,"SIEMENS CSA HEADER",{})'
    got = changed(ds, {path.format("09"): "new", '(0029,"ACME 1.1",01)': "made"}, path.format("08"))
    block = got.private_block(0x0029, "SIEMENS CSA HEADER")
    assert block[0x09].value == "new"
    assert 0x08 not in block
    assert got.private_block(0x0029, "ACME 1.1")[0x01].value == "made"
    [originals] = got.OriginalAttributesSequence[0].ModifiedAttributesSequence
    kept = originals.private_block(0x0029, "SIEMENS CSA HEADER")
    assert (kept[0x08].value, kept[0x09].value) == ("IMAGE NUM 4", "old")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_all_text_moves_to_unicode_wherever_it_stands(tmp_path: Path, syntax: str) -> None:
    ds = ct()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.StudyDescription = "Schädel"
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x62, "SH", "Küche")
    inner, deeper = Dataset(), Dataset()
    deeper.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x62, "SH", "Öl")
    inner.RequestedProcedureDescription, inner.ReferencedStudySequence = "Hüfte", [deeper]
    ds.RequestAttributesSequence = [inner]
    raw = part10(ds, syntax, syntax == ImplicitVRLittleEndian)
    path = tmp_path / "a.dcm"
    path.write_bytes(raw)
    header, offset = read_header(path)
    header = coerce(header, {"PatientName": "山田^太郎", "PatientComments": "Γεια"}, reason="COERCE", system="B", now=NOW, source="CT1")
    path.write_bytes(file_meta(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + encode_header(header, syntax) + raw[offset:])
    got = dcmread(path)
    assert got.SpecificCharacterSet == "ISO_IR 192"
    assert (got.PatientName, got.PatientComments, got.StudyDescription) == ("山田^太郎", "Γεια", "Schädel")
    assert got[0x0043, 0x1062].value == "Küche"
    [item] = got.RequestAttributesSequence
    assert (item.RequestedProcedureDescription, item.ReferencedStudySequence[0][0x0043, 0x1062].value) == ("Hüfte", "Öl")
    assert got[0x0009, 0x1001].value == bytes(range(256))  # what is no text keeps its bytes
    [note] = got.OriginalAttributesSequence
    assert (note.SourceOfPreviousValues, note.ModifiedAttributesSequence[0].PatientName) == ("CT1", "DOE^JANE")
    assert got.PixelData == ds.PixelData


def test_private_text_without_a_vr_that_is_not_valid_is_not_rewritten(tmp_path: Path) -> None:
    ds = ct(charset="ISO_IR 192")
    block = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x62, "UN", b"K\xfcche")  # latin 1 under the name of UTF-8
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(ds, ImplicitVRLittleEndian, implicit=True))
    header, _ = read_header(path)
    with pytest.raises(MessageError, match="not valid in its Specific Character Set"):
        to_unicode(header)
