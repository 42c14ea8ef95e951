"""Objects that archives were asked to send here for somebody else: they are passed on, and not taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred

from broker.connectors.base import Caller
from broker.dicom.query import UNIQUE, Retrieval
from broker.dicom.scan import scan
from broker.errors import MessageError
from broker.model import Spooled
from broker.store.spool import Spool

PassOn = Callable[[Spooled], Deferred[int]]


class Expected:
    """What is under way, by the AE title of the archive that sends it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: dict[str, list[tuple[Retrieval, PassOn]]] = {}

    @contextmanager
    def of(self, ae_title: str, wanted: Retrieval, pass_on: PassOn) -> Iterator[None]:
        """Have what an archive sends of this retrieval passed on while the block runs."""
        waiting = self._waiting.setdefault(ae_title, [])
        waiting.append((wanted, pass_on))
        try:
            yield
        finally:
            waiting.remove((wanted, pass_on))
            if not waiting:
                del self._waiting[ae_title]

    def take(self, caller: Caller, spooled: Spooled) -> Deferred[int] | None:
        """Pass an object on and fire with its status there; None when nobody waits for it."""
        waiting = self._waiting.get(caller.ae_title)
        if not waiting:
            return None
        try:
            found = scan(self._spool.path(spooled.name), UNIQUE.values())
        except (MessageError, OSError):
            return None
        for wanted, pass_on in waiting:
            if all(found.get(UNIQUE[level], "") in values for level, values in wanted.keys.items()):
                return pass_on(spooled)
        return None
