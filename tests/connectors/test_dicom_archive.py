"""An archive as its user sees it, at the other end of a connection in memory."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.dicom_archive import MOST_WAITING, Archive
from broker.connectors.dicom_retrieval import Task
from broker.dicom import dimse
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.dicom.query import STUDY_ROOT
from broker.obs.metrics import Metrics
from tests.connectors.dicom_archive import EXPLICIT
from tests.connectors.dicom_archive import Archive as Peer
from tests.connectors.dicom_shell import destination_settings, quiet


def test_an_archive_that_answers_faster_than_anybody_reads_is_held_back() -> None:
    reactor, gate, taken, ended = MemoryReactorClock(), Deferred[None](), list[Dataset](), list[int]()
    archive = Archive("archive", destination_settings(), reactor, Metrics(), quiet()[0], 60.0)
    Deferred.fromCoroutine(archive.open(STUDY_ROOT.find))
    peer = Peer(0, reactor.tcpClients[0][2]).accept()

    async def take(found: Sequence[Dataset]) -> None:
        taken.extend(found)
        await gate

    Deferred.fromCoroutine(archive.find(STUDY_ROOT, Dataset(), take, Task())).addCallback(ended.append)
    peer.hear()
    asked, entry = peer.messages[-1], Dataset()
    entry.StudyInstanceUID = "1.2"
    pending = peer.core.message(asked.context.id, dimse.response(asked.command, Status.PENDING, with_dataset=True), encode(entry, EXPLICIT))
    for _ in range(MOST_WAITING + 1):
        assert peer.transport.producerState == "producing"
        peer.say(pending)
    assert peer.transport.producerState == "paused"
    gate.callback(None)
    assert peer.transport.producerState == "producing"
    peer.say(peer.core.message(asked.context.id, dimse.response(asked.command, Status.SUCCESS)))
    assert (ended, len(taken)) == ([0], MOST_WAITING + 1)
