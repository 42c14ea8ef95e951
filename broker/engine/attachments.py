"""Attachments that were taken out of a message are put back as it leaves, for one destination at a time."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, ensureDeferred

from broker.connectors.base import Destination
from broker.errors import Refused, Retry, StoreError
from broker.hl7.attachment import MARK, filled, wanted
from broker.model import Delivery
from broker.store import attachments
from broker.store.database import Database
from broker.store.engine import Transaction


class Attaching:
    """A destination of HL7 messages that completes what it sends (`connectors.base.Destination`)."""

    def __init__(self, peer: Destination, db: Database) -> None:
        self.name, self.width = peer.name, peer.width
        self._peer, self._db = peer, db

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the peer's answer; fail with `Retry` or `Refused`."""
        if MARK not in delivery.payload:
            return self._peer.send(delivery)
        return ensureDeferred(self._complete(delivery))

    def close(self) -> Deferred[None]:
        """Close the peer's connection."""
        return self._peer.close()

    async def _complete(self, delivery: Delivery) -> str:
        try:
            contents = await self._db.read("attachments.get", _contents, delivery.message_id, wanted(delivery.payload))
        except StoreError as error:
            raise Retry("the attachment cannot be read from the store") from error
        return await self._peer.send(replace(delivery, payload=filled(delivery.payload, contents.__getitem__)))


def _contents(tx: Transaction, message_id: int, digests: list[str]) -> dict[str, bytes]:
    """Return the contents by digest; raises Refused when the message has no such attachment."""
    found = {}
    for digest in digests:
        content = attachments.get(tx, message_id, digest)
        if content is None:
            raise Refused("an attachment of the message is not in the store")
        found[digest] = content
    return found
