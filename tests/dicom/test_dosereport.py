"""Dose reports and the dose attributes of an MPPS."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from broker.dicom import dosereport
from broker.dicom.dosereport import Reading, of_performed, of_report, read_report
from broker.errors import MessageError
from tests.dicom import dosereports
from tests.dicom.objects import ct, part10


def test_a_ct_report_has_its_total_and_each_acquisition() -> None:
    report = dosereports.ct_report([("1.5.1", "0.12", "4.5"), ("1.5.2", "12.34", "456.7")], "461.2")
    assert of_report(report) == (
        Reading(scope="1.2.3", modality="CT", dlp=461.2, exposures=2),
        Reading("1.5.1", modality="CT", ctdivol=0.12, phantom="113691", dlp=4.5, exposures=1),
        Reading("1.5.2", modality="CT", ctdivol=12.34, phantom="113691", dlp=456.7, exposures=1),
    )


def test_the_planes_of_a_projection_report_are_added_but_for_the_skin() -> None:
    planes = dosereports.plane("A", "0.0002", "0.010"), dosereports.plane("B", "0.0001", "0.004")
    total, event = of_report(dosereports.report(*planes, dosereports.exposure("1.5.1", "0.0003", "0.012")))
    assert total.dap == pytest.approx(0.0003)
    assert (total.entrance, total.exposures, total.modality) == (10.0, 1, "")
    assert event == Reading("1.5.1", at="20260302101000", dap=0.0003, entrance=12.0, exposures=1)


def test_mammography_has_the_dose_of_the_breast_that_got_more() -> None:
    total, event = of_report(dosereports.mammogram("1.5.1", "1.4", ["2.8", "3.1"]))
    assert (total.modality, total.glandular, event.glandular) == ("MG", 3.1, 1.4)


@pytest.mark.parametrize(("unit", "kept"), [("Gy.m2", 2.0), ("dGy.cm2", 2e-5), ("uGy.m2", 2e-6), ("mGy.cm2", 2e-7)])
def test_units_that_are_another_size_of_the_same_are_converted(unit: str, kept: float) -> None:
    assert of_report(dosereports.report(dosereports.exposure("1.5.1", "2", "0", unit)))[1].dap == kept


@pytest.mark.parametrize("unit", ["mGy", "Gy", "1", "cm", "dGycm2", ""])
def test_a_unit_that_the_quantity_cannot_have_is_refused(unit: str) -> None:
    with pytest.raises(MessageError, match=r"dap \(122130\): its unit is none of Gy.m2") as refused:
        of_report(dosereports.report(dosereports.exposure("1.5.1", "2", "0", unit)))
    assert refused.value.path == "ContentSequence"


@pytest.mark.parametrize("amount", ["-1", "NaN", "many", "Infinity"])
def test_what_is_no_number_is_refused(amount: str) -> None:
    with pytest.raises(MessageError, match="no number"):
        of_report(dosereports.report(dosereports.exposure("1.5.1", "1", "0").copy(), _of(amount)))


def _of(amount: str) -> Dataset:
    found = dosereports.exposure("1.5.2", "1", "0")
    found.ContentSequence[2].MeasuredValueSequence[0].NumericValue = "0"
    found.ContentSequence[2].MeasuredValueSequence[0]["NumericValue"]._value = amount
    return found


def test_a_number_that_the_modality_could_not_tell_is_none() -> None:
    event = dosereports.exposure("1.5.1", "1", "0")
    event.ContentSequence[2].MeasuredValueSequence = []
    assert of_report(dosereports.report(event))[1].dap is None


def test_an_event_without_its_uid_counts_in_the_total_alone() -> None:
    readings = of_report(dosereports.report(dosereports.exposure("", "1", "0")))
    assert [(one.event_uid, one.exposures) for one in readings] == [("", 1)]


@pytest.mark.parametrize("sop_class", [dosereport.ENHANCED, dosereport.RDSR])
def test_another_report_is_none(sop_class: str) -> None:
    other = dosereports.report()
    other.SOPClassUID, other.ConceptNameCodeSequence = sop_class, [dosereports.coded("126000", "Imaging Measurement Report")]
    with pytest.raises(MessageError):
        of_report(other)


def test_what_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = dosereports.container("113829", "CT Dose")
    for _ in range(20):
        deep = dosereports.container("113829", "CT Dose", deep)
    with pytest.raises(MessageError, match="too deep"):
        of_report(dosereports.report(dosereports.container("113819", "CT Acquisition", deep)))
    monkeypatch.setattr(dosereport, "MOST_EVENTS", 3)
    with pytest.raises(MessageError, match="more than 3"):
        of_report(dosereports.ct_report([(f"1.5.{n}", "1", "1") for n in range(4)], "4"))


def test_a_file_is_read_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(part10(dosereports.ct_report([("1.5.1", "1", "2")], "2")))
    assert [one.dlp for one in read_report(path)] == [2.0, 2.0]
    monkeypatch.setattr(dosereport, "MOST_BYTES", 100)
    with pytest.raises(MessageError, match="is not read"):
        read_report(path)


def test_other_objects_are_no_dose_report(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct()))
    for other in (path, get_testdata_file("reportsi.dcm")):
        with pytest.raises(MessageError, match="no X-ray radiation dose report"):
            read_report(str(other))


def test_an_mpps_states_its_dose_in_the_units_of_the_standard() -> None:
    attributes = Dataset()
    attributes.Modality, attributes.ImageAndFluoroscopyAreaDoseProduct, attributes.EntranceDose = "DX", "12.5", 2
    exposures = [Dataset(), Dataset()]
    exposures[1].CTDIvol = 7.5
    exposures[1].CTDIPhantomTypeCodeSequence = [dosereports.coded("113690", "IEC Head Dosimetry Phantom")]
    attributes.ExposureDoseSequence = exposures
    assert of_performed(attributes) == Reading(modality="DX", ctdivol=7.5, phantom="113690", dap=0.000125, entrance=200.0, exposures=2)
    attributes.EntranceDoseInmGy, attributes.TotalNumberOfExposures = "1.25", 4
    found = of_performed(attributes)
    assert found is not None
    assert (found.entrance, found.exposures) == (1.25, 4)


def test_an_mpps_without_dose_says_nothing() -> None:
    attributes = Dataset()
    attributes.Modality = "US"
    assert of_performed(attributes) is None
    attributes.ExposureDoseSequence = []
    assert of_performed(attributes) is None
