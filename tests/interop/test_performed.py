"""pynetdicom as the modality and as a further MPPS manager, around a broker that runs as a process."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    XRayRadiationDoseSRStorage,
)

from broker.dicom.dosereport import read_report
from tests.dicom import dosereports
from tests.dicom.objects import dataset_bytes, part10
from tests.peers import TOP, BrokerProcess, Sender, Sink, eventually, free_ports

ORDER = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ORM^O01|{id}|P|2.3.1\r"
    "PID|1||4711^^^GENHOSP^MR||DOE^JANE||19610615|F\rPV1|1|O|RAD\r"
    "ORC|NW|{id}||||||||||D1^WHO\rOBR|1|{id}||CTCHEST^CT chest||||||||||||D1^WHO||{accession}\r"
)
_FIGURE = re.compile(r'NUM:\((\d+),DCM,"[^"]+"\)="([^"]+)" \(([^,]+),UCUM')
RELAY = """
description: Further managers hear of every performed step.
accept: kind in [N-CREATE, N-SET]
to:
  - send: manager
"""


class Manager:
    """A further manager: keeps the attributes as they came, and in which order."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, str, bytes]] = []
        self._ae = AE(ae_title="MANAGER")
        self._ae.add_supported_context(ModalityPerformedProcedureStep, ExplicitVRLittleEndian)
        self._port = port
        self._server: Any = None

    def start(self) -> None:
        handlers = [(evt.EVT_N_CREATE, self._created), (evt.EVT_N_SET, self._set)]
        self._server = self._ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()

    def _created(self, event: Any) -> tuple[int, Dataset | None]:
        self.heard.append(("N-CREATE", str(event.request.AffectedSOPInstanceUID), event.request.AttributeList.getvalue()))
        return 0x0000, None

    def _set(self, event: Any) -> tuple[int, Dataset | None]:
        self.heard.append(("N-SET", str(event.request.RequestedSOPInstanceUID), event.request.ModificationList.getvalue()))
        return 0x0000, None


class Department:
    """A broker with a further manager, an EHR, and a modality."""

    def __init__(self, folder: Path) -> None:
        for name in ("routes", "mappings", "samples"):
            shutil.copytree(TOP / name, folder / name)
        [self.manager_port] = free_ports(1)
        settings = f"{{host: 127.0.0.1, port: {self.manager_port}, ae_title: MANAGER, retry: {{first: 100ms, most: 200ms}}}}"
        manager = f"  manager:\n    dicom: {settings}\n"
        text = (TOP / "channels.yaml").read_text().replace("\ndestinations:\n", f"\ndestinations:\n{manager}", 1)
        (folder / "channels.yaml").write_text(text + "  relay: {from: modalities, route: routes/relay.yaml}\n")
        (folder / "routes" / "relay.yaml").write_text(RELAY)
        self.broker = BrokerProcess(folder, config=folder / "channels.yaml")
        self.broker.start()
        self.ehr = Sink(self.broker.ports["EHR_HL7_PORT"])
        self.ehr.start()
        self.manager = Manager(self.manager_port)

    def order(self, accession: str) -> None:
        sender = Sender(self.broker.ports["HL7_PORT"])
        assert "|AA|" in sender.send(ORDER.format(id=f"P-{accession}", accession=accession))
        sender.close()

    def ask(self, work: Any, syntax: str = ExplicitVRLittleEndian) -> Any:
        ae = AE(ae_title="CT1")
        for sop_class in (ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve, XRayRadiationDoseSRStorage):
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", self.broker.ports["DICOM_PORT"], ae_title="BROKER")
        assert association.is_established
        try:
            return work(association)
        finally:
            association.release()

    def create(self, uid: str, attributes: Dataset) -> Any:
        return self.ask(lambda one: one.send_n_create(attributes, ModalityPerformedProcedureStep, uid)[0])

    def set(self, uid: str, attributes: Dataset) -> Any:
        return self.ask(lambda one: one.send_n_set(attributes, ModalityPerformedProcedureStep, uid)[0])

    def trace(self, accession: str) -> list[tuple[str, str, str]]:
        return [(one["what"], one["kind"], one["detail"]) for one in self.broker.json(f"/api/trace/{accession}")["entries"]]

    def happened(self, accession: str) -> list[tuple[str, str]]:
        return [(what, kind) for what, kind, _ in self.trace(accession)]

    def end(self) -> None:
        self.manager.stop()
        self.broker.stop()
        self.ehr.stop()


@pytest.fixture
def department(tmp_path: Path) -> Iterator[Department]:
    made = Department(tmp_path)
    yield made
    made.end()


def begun(*accessions: str) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus, ds.PerformedProcedureStepID, ds.Modality = "IN PROGRESS", "P1", "CT"
    ds.PerformedStationAETitle = "CT1"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20260302", "101500"
    ds.ScheduledStepAttributesSequence = [_step(accession) for accession in accessions]
    return ds


def _step(accession: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.AccessionNumber = "1.2.3", accession
    return item


def ended(status: str = "COMPLETED", reason: str = "") -> Dataset:
    ds, series = Dataset(), Dataset()
    ds.PerformedProcedureStepStatus = status
    ds.PerformedProcedureStepEndDate, ds.PerformedProcedureStepEndTime = "20260302", "103000"
    series.SeriesInstanceUID = generate_uid()
    ds.PerformedSeriesSequence = [series]
    if reason:
        ds.PerformedProcedureStepDiscontinuationReasonCodeSequence = [dosereports.coded(reason, "")]
    return ds


def test_a_manager_that_is_down_holds_up_nobody_and_hears_all_in_order(department: Department) -> None:
    department.order("A1")
    department.order("A2")
    first, second = generate_uid(), generate_uid()
    assert department.create(first, begun("A1")).Status == 0
    assert department.create(second, begun("A2")).Status == 0
    assert department.set(first, ended()).Status == 0
    assert department.set(second, ended("DISCONTINUED", "110514")).Status == 0
    department.manager.start()
    eventually(lambda: len(department.manager.heard) == 4, "the manager has heard of both steps")
    heard = department.manager.heard
    for uid in (first, second):
        assert [kind for kind, one, _ in heard if one == uid] == ["N-CREATE", "N-SET"]
    assert next(raw for kind, one, raw in heard if (kind, one) == ("N-CREATE", first)) == dataset_bytes(begun("A1"))
    eventually(lambda: ("delivered", "N-SET") in department.happened("A1"), "the delivery is on the timeline")


def test_an_exam_that_was_begun_by_mistake_is_told_to_the_ehr(department: Department) -> None:
    department.order("A1")
    uid = generate_uid()
    assert department.create(uid, begun("A1")).Status == 0
    assert department.set(uid, ended("DISCONTINUED", "110514")).Status == 0
    eventually(lambda: len(department.ehr.of("ORM^O01")) == 2, "the EHR has heard of begin and end")
    told = [raw.split(b"ORC|", 1)[1].split(b"\r")[0].split(b"|") for raw in department.ehr.of("ORM^O01")]
    assert [fields[4] for fields in told] == [b"IP", b"SC"]
    assert told[1][15] == b"110514^Incorrect worklist entry selected^DCM"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_n_get_gives_what_the_step_has_become(department: Department, syntax: str) -> None:
    uid = generate_uid()
    department.create(uid, begun("A1", "A2"))
    department.set(uid, ended())

    def get(tags: list[int], sop_class: str = ModalityPerformedProcedureStepRetrieve, of: str = uid) -> Any:
        return department.ask(lambda one: one.send_n_get(tags, sop_class, of), syntax)

    status, found = get([])
    assert (status.Status, found.PerformedProcedureStepStatus, found.Modality) == (0, "COMPLETED", "CT")
    assert [item.AccessionNumber for item in found.ScheduledStepAttributesSequence] == ["A1", "A2"]
    status, found = get([0x00400252])
    assert (status.Status, [element.keyword for element in found]) == (0, ["PerformedProcedureStepStatus"])
    assert get([0x00281050])[0].Status == 0x0001
    assert get([], of="1.2.404")[0].Status == 0x0112
    assert get([], ModalityPerformedProcedureStep)[0].Status == 0x0211


def test_what_is_final_stays_so_and_says_why(department: Department) -> None:
    uid = generate_uid()
    department.create(uid, begun("A1"))
    early = ended()
    del early.PerformedProcedureStepEndDate
    unfinished = department.set(uid, early)
    assert (unfinished.Status, unfinished.AttributeIdentifierList) == (0x0120, 0x00400250)
    department.set(uid, ended())
    late = Dataset()
    late.CommentsOnThePerformedProcedureStep = "late"
    refused = department.set(uid, late)
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA710)
    assert refused.ErrorComment == "performed procedure step object may no longer be updated"
    short = begun("A1")
    del short.Modality
    assert department.create(generate_uid(), short).Status == 0x0120


def test_a_dose_report_is_on_the_timeline_of_its_exam(department: Department) -> None:
    department.order("ACC1")
    report = dosereports.ct_report([("1.5.1", "12.34", "456.7")], "456.7")
    assert department.ask(lambda one: one.send_c_store(report)).Status == 0
    told = [detail for what, _, detail in department.trace("ACC1") if what == "dose.recorded"]
    assert told == ["RDSR: CTDIvol 12.34 mGy, DLP 456.7 mGy.cm, 1 exposures"]


@pytest.mark.parametrize("kind", ["ct", "projection", "mammography"])
def test_dcmtk_reads_the_same_figures_in_the_reports_of_these_tests(tmp_path: Path, kind: str) -> None:
    """The reports that the tests build are what DCMTK takes for dose reports, and its figures are ours."""
    report = {
        "ct": dosereports.ct_report([("1.5.1", "12.34", "456.7")], "456.7"),
        "projection": dosereports.report(dosereports.plane("A", "0.00021", "0.0125"), dosereports.exposure("1.5.1", "0.00021", "0.0125")),
        "mammography": dosereports.mammogram("1.5.1", "1.4", ["2.8", "3.1"]),
    }[kind]
    path = tmp_path / "report.dcm"
    path.write_bytes(part10(report))
    dumped = subprocess.run(["dsrdump", "+Pc", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (dumped.returncode, dumped.stderr) == (0, "")
    shown = {(code, unit): float(value) for code, value, unit in _FIGURE.findall(dumped.stdout)}
    total, event = read_report(path)
    ours = {
        "ct": {("113813", "mGy.cm"): total.dlp, ("113830", "mGy"): event.ctdivol, ("113838", "mGy.cm"): event.dlp},
        "projection": {("113722", "Gy.m2"): total.dap, ("122130", "Gy.m2"): event.dap},
        "mammography": {("111631", "mGy"): event.glandular, ("111637", "mGy"): total.glandular},
    }[kind]
    assert {name: shown[name] for name in ours} == ours
