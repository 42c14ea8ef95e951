"""What the web pages ask of the engine."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from broker.obs.status import DeliveryItem, MessageFilter, MessageItem, Overview, Readiness, Trace


class Status(Protocol):
    """The figures behind the pages; each answer is a coroutine or a Deferred, and holds no patient data."""

    def status(self) -> Awaitable[Overview]:
        """Return the broker as it is now."""

    def trace(self, accession: str) -> Awaitable[Trace]:
        """Return the timeline of an accession; it has no entries when the accession is unknown."""

    def messages(self, filters: MessageFilter) -> Awaitable[list[MessageItem]]:
        """Return the journal's messages that match, newest first."""

    def deliveries(self, message_id: int) -> Awaitable[list[DeliveryItem]]:
        """Return the deliveries of a message, in the order in which they were queued."""

    def again(self, message_id: int) -> Awaitable[str]:
        """Route a parked message once more and return its state; raises LookupError or MessageError."""

    def resend(self, delivery_id: int) -> Awaitable[str]:
        """Let a delivery wait again and return its destination; raises LookupError when there is none or it waits already."""

    def ready(self) -> Awaitable[Readiness]:
        """Return whether the store is open and every listener bound; must not fail when the store does."""
