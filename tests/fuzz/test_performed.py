"""Damaged dose reports and MPPS of any content: read, or refused with a MessageError, and nothing else."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from broker.dicom import performedstep
from broker.dicom.dataset import EXPLICIT_LITTLE, decode, encode, silence_libraries
from broker.dicom.dosereport import of_performed, read_report
from broker.errors import MessageError
from broker.pipeline.fields import DICOM_FIELDS
from broker.pipeline.header import Header
from broker.pipeline.performed import perform_step
from broker.ris.entities import Performed
from broker.ris.events import PerformStep
from tests.dicom import dosereports
from tests.dicom.objects import dataset_bytes, part10


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """Cut, overwrite, insert or repeat a few bytes."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 2:
                del data[at : at + chance.randint(1, 16)]
            case _:
                data[at:at] = data[at : at + chance.randint(1, 200)]
    return bytes(data) if chance.random() < 0.9 else bytes(data[: chance.randrange(len(data))])


@pytest.fixture(autouse=True)
def quiet() -> None:
    silence_libraries()


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_dose_report(tmp_path: Path, seed: int) -> None:
    chance, path = random.Random(seed), tmp_path / "report.dcm"
    whole = part10(dosereports.ct_report([(f"1.5.{n}", "12.5", "300") for n in range(3)], "900"))
    read = 0
    for _ in range(150):
        path.write_bytes(damaged(whole, chance))
        with suppress(MessageError):
            assert read_report(path)
            read += 1
    assert 0 < read < 150


def mpps() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.Modality, ds.PerformedStationAETitle, ds.PerformedProcedureStepID = "CT", "CT1", "P1"
    ds.PerformedProcedureStepStatus = "DISCONTINUED"
    ds.PerformedProcedureStepStartDate = ds.PerformedProcedureStepEndDate = "20260302"
    ds.PerformedProcedureStepStartTime = ds.PerformedProcedureStepEndTime = "101500"
    step, series, exposure = Dataset(), Dataset(), Dataset()
    step.StudyInstanceUID, step.AccessionNumber, step.ScheduledProcedureStepID = "1.2.3", "A1", "S1"
    series.SeriesInstanceUID = "1.2.4"
    exposure.CTDIvol = 12.5
    ds.ScheduledStepAttributesSequence, ds.PerformedSeriesSequence, ds.ExposureDoseSequence = [step], [series], [exposure]
    ds.PerformedProcedureStepDiscontinuationReasonCodeSequence = [dosereports.coded("110514", "Incorrect worklist entry selected")]
    ds.ImageAndFluoroscopyAreaDoseProduct, ds.TotalNumberOfExposures = "12.5", 3
    return ds


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_mpps(seed: int, complete: bool) -> None:
    chance, whole = random.Random(seed), dataset_bytes(mpps())
    taken = 0
    for _ in range(150):
        raw, before = damaged(whole, chance), damaged(whole, chance) if chance.random() < 0.3 else whole
        with suppress(MessageError):
            header = Header({}, decode(raw, EXPLICIT_LITTLE), kind=chance.choice(("N-CREATE", "N-SET")), sender="CT1", uid="1.2.9")
            kept = (Performed(status="IN PROGRESS"), before)
            made = perform_step(header, DICOM_FIELDS["performed"], lambda uid, kept=kept: kept, None, complete=complete)  # type: ignore[misc]
            assert isinstance(made, PerformStep)
            attributes, _ = performedstep.selected(decode(made.attributes, EXPLICIT_LITTLE))
            encode(attributes, EXPLICIT_LITTLE)
            of_performed(attributes)
            taken += 1
    assert taken
