"""The commands of the page about images without exam, as it shows them, against a running broker."""

from __future__ import annotations

import shlex
from pathlib import Path

from pynetdicom import AE

from tests.docs.pages import TOP, blocks, missing
from tests.peers import Archive, BrokerProcess, Sink, ct_image, eventually

PAGE = TOP / "docs/how-to/link-images.md"


def store(port: int, patient: str, accession: str, study: str) -> None:
    """Let CT1 store one image."""
    image = ct_image(patient, "DOE^JANE^Q", accession, study)
    ae = AE(ae_title="CT1")
    ae.add_requested_context(image.SOPClassUID)
    association = ae.associate("127.0.0.1", port, ae_title="BROKER")
    assert association.is_established
    assert association.send_c_store(image).Status == 0
    association.release()


def test_the_commands_do_what_the_page_says(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    archive = Archive(broker.ports["ARCHIVE_DICOM_PORT"])
    sinks = [Sink(broker.ports[name]) for name in ("EHR_HL7_PORT", "ARCHIVE_HL7_PORT", "BILLING_HL7_PORT")]
    peers = (archive, *sinks, broker)
    try:
        for peer in peers:
            peer.start()
        assert broker.command("send", "samples/orm_ct.hl7", "samples/omg_mr.hl7").returncode == 0
        modality = broker.ports["DICOM_PORT"]
        store(modality, "4711", "A00000010", "1.2.840.99999.7.1")
        shown = [one for block in blocks(PAGE) if block.language == "console" for one in block.commands]
        shown = [(command, lines) for command, lines in shown if command.split()[1] in ("unmatched", "images")]
        assert len(shown) == 7
        for command, lines in shown:
            if " correct 2 " in command:
                store(modality, "4711", "TYPO", "1.2.840.99999.7.2")
            if " release 3 " in command:
                store(modality, "FOREIGN", "F1", "1.2.840.99999.7.3")
            if " undo 3 " in command:
                eventually(lambda: len(archive.received) == 3, "the released image is there")
                eventually(lambda: broker.json("/api/status")["destinations"][0]["waiting"] == 0, "the store says so")
            done = broker.command(*shlex.split(command)[1:])
            assert done.returncode == 0, command + done.stdout + done.stderr
            assert missing(lines, done.stdout) == "", command + done.stdout
        eventually(lambda: len(archive.received) == 6, "two rejection notes, and the image once more")
        assert archive.received[-1].AccessionNumber == "A00000002"
        assert "no such entry" in broker.command("unmatched", "undo", "77", "--why", "x").stderr
    finally:
        for peer in reversed(peers):
            peer.stop()
