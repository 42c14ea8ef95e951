"""The worklist and the availability of images against a broker process, asked by DCMTK and pynetdicom."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityWorklistInformationFind  # type: ignore[attr-defined]

from broker.dicom.availability import Located, Notification, make
from tests.peers import TOP, BrokerProcess, Sender

MOST = 3


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with four orders, on which CT7 is shown the steps of CT1 and CT2."""
    folder = tmp_path_factory.mktemp("worklist")
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(TOP / name, folder / "config" / name)
    text = (TOP / "channels.yaml").read_text()
    services = "services: [store, worklist, mpps, commitment]"
    assert services in text
    text = text.replace(services, f"services: [store, worklist, mpps, availability]\n      worklist: {{most: {MOST}}}")
    text = text.replace("        CT1: {}\n", "        CT1: {}\n        CT7: {worklist: {stations: [CT1, CT2]}}\n")
    (folder / "config/channels.yaml").write_text(text)
    process = BrokerProcess(folder, config=folder / "config/channels.yaml")
    process.start()
    sender = Sender(process.ports["HL7_PORT"])
    for number in range(1, 5):
        message = (TOP / "samples/orm_ct.hl7").read_text().replace("\n", "\r")
        message = message.replace("ORM0001", f"ORM{number}").replace("|4711^", f"|47{number}^").replace("|P1^", f"|P{number}^")
        message = message.replace("DOE^JANE^Q", "MÜLLER^ZOË" if number == 1 else f"DOE{number}^JANE").replace(
            "|P|2.3.1", "|P|2.3.1||||||UNICODE UTF-8"
        )
        assert "MSA|AA" in sender.send(message.encode() + b"AL1|1|DA|^Iodine\r")
    yield process
    assert process.stop() == 0


def findscu(broker: BrokerProcess, folder: Path, *keys: str, calling: str = "CT1", more: tuple[str, ...] = ()) -> tuple[list[Dataset], str]:
    """Return what DCMTK's findscu is told, and what it says."""
    arguments = [word for key in keys for word in ("-k", key)]
    command = [
        "findscu",
        "-v",
        "-W",
        "-X",
        *more,
        "-aet",
        calling,
        "-aec",
        "BROKER",
        *arguments,
        "127.0.0.1",
        str(broker.ports["DICOM_PORT"]),
    ]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "TCP_NODELAY": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    return [dcmread(file, force=True) for file in sorted(folder.glob("rsp*.dcm"))], done.stdout + done.stderr


def test_findscu_gets_what_a_modality_needs(broker: BrokerProcess, tmp_path: Path) -> None:
    keys = ("0008,0005=ISO_IR 100", "0010,0010", "0010,0020=471", "0010,2110", "0008,1110", "0040,0100", "0010,21C0", "0032,1064")
    (entry,), said = findscu(broker, tmp_path, *keys)
    assert "DIMSE Status" in said or "Success" in said
    assert (entry.SpecificCharacterSet, str(entry.PatientName), entry.Allergies) == ("ISO_IR 100", "MÜLLER^ZOË", "Iodine")
    assert entry.ReferencedStudySequence[0].ReferencedSOPInstanceUID
    step = entry.ScheduledProcedureStepSequence[0]
    assert (step.ScheduledStationAETitle, step.Modality, step.ScheduledProtocolCodeSequence[0].CodeValue) == ("CT1", "CT", "CTCHEST")
    assert entry.RequestedProcedureCodeSequence[0].CodingSchemeDesignator == "L"


def test_findscu_matches_names_dates_and_items(broker: BrokerProcess, tmp_path: Path) -> None:
    for number, (keys, found) in enumerate(
        [
            (("0010,0010=MULLER*",), {"471"}),
            (("0010,0010=doe?^jane", "0010,0020"), {"472", "473", "474"}),
            (("0010,0020", "0010,0010=DOE2*", "0040,0100[0].0040,0002=20200101-20200102"), set()),
            (("0010,0020=474", "0040,0100[0].0040,0008[0].0008,0100=CT*"), {"474"}),
            (("0010,0020=474", "0040,0100[0].0040,0008[0].0008,0100=MR*"), set()),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        entries, _ = findscu(broker, folder, *dict.fromkeys((*keys, *(() if "0010,0020" in str(keys) else ("0010,0020",)))))
        assert {entry.PatientID for entry in entries} == found, keys


def test_findscu_is_told_that_there_is_more(broker: BrokerProcess, tmp_path: Path) -> None:
    entries, said = findscu(broker, tmp_path, "0010,0020")
    assert len(entries) == MOST
    assert "OutOfResources" in said


def test_findscu_in_every_syntax(broker: BrokerProcess, tmp_path: Path) -> None:
    for option in ("-xi", "-xe", "-xb"):
        folder = tmp_path / option
        folder.mkdir()
        (entry,), _ = findscu(broker, folder, "0010,0020=472", "0010,21C0", "0040,0100", more=(option,))
        assert entry.ScheduledProcedureStepSequence[0].Modality == "CT"


def test_a_modality_under_another_name_gets_its_stations(broker: BrokerProcess) -> None:
    def stations(asked: str, calling: str) -> set[str]:
        query, step = Dataset(), Dataset()
        query.PatientID, step.ScheduledStationAETitle = "472", asked
        query.ScheduledProcedureStepSequence = [step]
        found = associated(
            broker, calling, ModalityWorklistInformationFind, lambda peer: list(peer.send_c_find(query, ModalityWorklistInformationFind))
        )
        assert found[-1][0].Status == 0
        return {entry.ScheduledProcedureStepSequence[0].ScheduledStationAETitle for _, entry in found if entry}

    assert stations("CT7", "CT7") == stations("", "CT7") == {"CT1"}
    assert stations("CT7", "CT1") == set()


def test_an_archive_notifies(broker: BrokerProcess) -> None:
    def notify(study: str) -> int:
        said = make(Notification(study, (Located("1.2.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.1.1", "ONLINE", "ARCHIVE"),), ("1.2.9",)))
        answer = associated(
            broker,
            "ARCHIVE",
            InstanceAvailabilityNotification,
            lambda peer: peer.send_n_create(said, InstanceAvailabilityNotification, "2.25.77"),
        )
        return int(answer[0].Status)

    accession = next(entry.AccessionNumber for entry in worklist(broker, "471"))
    study = next(entry.StudyInstanceUID for entry in worklist(broker, "471"))
    assert notify("2.25.404") == 0  # listed
    assert notify(study) == 0
    shown = broker.command("trace", accession)
    assert "study.available" in shown.stdout
    assert "ONLINE at ARCHIVE" in shown.stdout
    listed = broker.command("unmatched", "list")
    assert "2.25.404" in listed.stdout + listed.stderr


def worklist(broker: BrokerProcess, patient_id: str) -> list[Dataset]:
    query = Dataset()
    query.PatientID, query.AccessionNumber, query.StudyInstanceUID = patient_id, "", ""
    found = associated(
        broker, "CT1", ModalityWorklistInformationFind, lambda peer: list(peer.send_c_find(query, ModalityWorklistInformationFind))
    )
    return [entry for _, entry in found if entry]


def associated(broker: BrokerProcess, calling: str, context: Any, work: Any) -> Any:
    """Return what comes of some work over an association of pynetdicom's."""
    ae = AE(calling)
    ae.add_requested_context(context)
    peer = ae.associate("127.0.0.1", broker.ports["DICOM_PORT"], ae_title="BROKER")
    assert peer.is_established
    try:
        return work(peer)
    finally:
        peer.release()
