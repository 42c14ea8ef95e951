"""DICOM objects and a spool for tests."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from broker.dicom.files import file_meta


def ct(rows: int = 16, *, name: str = "DOE^JANE", instance: str = "", charset: str = "ISO_IR 100") -> Dataset:
    """Return a CT with a private block, a nested sequence, and pixels that are not all the same."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = charset
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = instance or generate_uid()
    ds.StudyDate = "20260302"
    ds.AccessionNumber = "A1"
    ds.Modality = "CT"
    ds.PatientName = name
    ds.PatientID = "4711"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.InstanceNumber = 1
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    item.RequestedProcedureID = "R1"
    ds.RequestAttributesSequence = [item]
    private = ds.private_block(0x0009, "BROKER TEST", create=True)
    private.add_new(0x01, "OB", bytes(range(256)))
    private.add_new(0x02, "UN", b"\x00\xff\x80\x7f")
    ds.Rows = ds.Columns = rows
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = (
        bytes((i * 7 + i // 251) % 256 for i in range(rows * rows * 2)) if rows < 128 else bytes(range(256)) * (rows * rows // 128)
    )
    return ds


def dataset_bytes(ds: Dataset, implicit: bool = False) -> bytes:
    """Return the dataset alone, without preamble and group 2."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, True
    write_dataset(out, ds)
    return out.getvalue()


def part10(ds: Dataset, syntax: str = ExplicitVRLittleEndian, implicit: bool = False) -> bytes:
    """Return the dataset as a file of PS3.10."""
    return file_meta(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + dataset_bytes(ds, implicit)


def write(path: Path, ds: Dataset) -> Path:
    """Write the dataset as a file."""
    path.write_bytes(part10(ds))
    return path
