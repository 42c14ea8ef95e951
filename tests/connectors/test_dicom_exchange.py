"""Both directions of one association at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from broker.connectors.dicom_requestor import Requestor, offers
from broker.connectors.dicom_services import Receiver
from broker.dicom import dimse
from broker.dicom.association import Association
from broker.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL
from broker.dicom.dimse import Command, Field
from broker.dicom.happenings import Data, Fault, Message
from broker.dicom.negotiation import Request
from tests.connectors.dicom_shell import quiet
from tests.dicom.cores import CT, EXPLICIT, feed, written


class Slow(StringTransport):
    """A connection that takes the first piece of what a producer has, and the rest when it is told to."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        producer.pauseProducing()


def test_an_answer_waits_for_the_end_of_an_object_that_is_on_its_way(tmp_path: Path) -> None:
    request = Request("BROKER", "ARCHIVE", offers([(CT, EXPLICIT), (PUSH_MODEL, EXPLICIT)]), 1 << 14)
    requestor = Requestor(request, Clock(), quiet()[0], patience=60.0, serve=Receiver)
    line, peer, answers = Slow(), Association(acceptor=True), list[Command]()
    peer.connected()
    requestor.makeConnection(line)
    feed(peer, line.value())
    line.clear()
    requestor.dataReceived(written(peer.accept(lambda offer: offer.syntaxes[0])))
    path = tmp_path / "object"
    path.write_bytes(bytes(3 << 19))
    context = requestor.context_for(CT, EXPLICIT)
    assert context is not None
    with path.open("rb") as file:
        Deferred.fromCoroutine(requestor.requests.store(context, "1.2.3", b"", file)).addCallback(answers.append)
        requestor.dataReceived(peer.message(3, dimse.request(Field.N_EVENT_REPORT, 9, PUSH_MODEL, PUSH_INSTANCE, with_dataset=False)))
        line.producer.resumeProducing()
    heard = feed(peer, line.value())
    assert [one for one in heard if isinstance(one, Fault)] == []
    assert sum(len(one.view) for one in heard if isinstance(one, Data)) == 3 << 19
    asked, told = [one.command for one in heard if isinstance(one, Message)]
    assert (asked.field, told.field, told.message_id) == (Field.C_STORE, Field.N_EVENT_REPORT | dimse.RESPONSE, 9)
    requestor.dataReceived(peer.message(1, dimse.response(asked, 0)))
    assert [one.status for one in answers] == [0]
