"""How one delivery reaches a DICOM peer: made ready, offered in its transfer syntaxes, transcoded where it must be, sent, judged."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from broker.connectors.base import Deidentifier, Transcoder
from broker.connectors.dicom_outcomes import CONTEXTS, Outcome, Outcomes, described
from broker.connectors.dicom_pool import Link, Need, Pool
from broker.connectors.dicom_preparing import Ready, made_of, ready_at_once, ready_by_library
from broker.connectors.dicom_services import Spool
from broker.connectors.dicom_syntaxes import Syntaxes
from broker.connectors.dicom_transport import off_core
from broker.dicom import dimserequest
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode
from broker.dicom.dimse import Command, Field
from broker.dicom.negotiation import Context
from broker.dicom.storerequest import decode_request
from broker.errors import Aborted, MessageError, Refused, Retry
from broker.model import Delivery, StoreRequest

Judged = tuple[Outcome, str]  # and the answer or reason
T = TypeVar("T")


class Dispatch:
    """Takes deliveries to the peer behind a pool of associations; what fails on the way raises Retry, Aborted or Refused."""

    def __init__(
        self,
        pool: Pool,
        spool: Spool,
        outcomes: Outcomes,
        syntaxes: Syntaxes,
        system: str,
        reactor: Any,
        transcoder: Transcoder | None,
        deidentifier: Deidentifier | None = None,
    ) -> None:
        """`system` is named in Original Attributes Sequence; with a `deidentifier` nothing leaves but what it has made."""
        self._pool, self._spool, self._outcomes, self._syntaxes = pool, spool, outcomes, syntaxes
        self._system, self._reactor, self._transcoder, self._deidentifier = system, reactor, transcoder, deidentifier

    async def run(self, delivery: Delivery) -> Judged:
        """Send a delivery, and return what its answer means."""
        try:
            return await (self._store(delivery) if delivery.kind == "C-STORE" else self._ask(delivery))
        except MessageError as error:
            raise Refused(str(error)) from error

    # objects

    async def _store(self, delivery: Delivery) -> Judged:
        request = decode_request(delivery.payload)
        try:
            path = str(self._spool.path(request.spooled.name))
        except ValueError as error:
            raise Refused("the delivery names no object of the spool") from error
        if self._deidentifier is None:
            return await self._prepared(path, request)
        made, request = await self._deidentifier.deidentified(path, request)
        try:
            return await self._prepared(made, request)
        finally:
            with suppress(OSError):
                os.unlink(made)

    async def _prepared(self, path: str, request: StoreRequest) -> Judged:
        ready = await self._ready(path, request)
        try:
            return await self._offered(ready, path, request)
        finally:
            ready.file.close()

    async def _ready(self, path: str, request: StoreRequest) -> Ready:
        now = datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
        try:
            ready = ready_at_once(path, request, self._system, now)
            if ready is None:
                ready = cast(Ready, await off_core(self._reactor, ready_by_library, path, request, self._system, now))
        except OSError as error:
            raise Refused(f"the object cannot be read from the spool: {type(error).__name__}") from error
        return ready

    async def _offered(self, ready: Ready, path: str, request: StoreRequest) -> Judged:
        """Send the object as it is when that is the best the peer takes, else in what it accepted, as far as that can be made."""
        choices = self._syntaxes.choices(ready.syntax) if self._transcoder is not None else (ready.syntax,)
        need = Need(ready.sop_class, choices)

        async def offer(link: Link) -> int | tuple[list[str], str]:
            found = link.contexts(need)
            if not found or found[0].syntax != ready.syntax:
                return [context.syntax for context in found], link.refusals(need)
            return await _sent(link, found[0], ready, request.originator)

        answer = await self._over(need, offer)
        if isinstance(answer, int):
            return self._judged(answer)
        accepted, refusals = answer
        hindrances = [refusals]
        for syntax in accepted:
            try:
                return await self._turned_into(syntax, ready, path, request)
            except MessageError as error:
                hindrances.append(f"cannot be turned into {syntax}: {error}")
        return self._outcomes.of_word(CONTEXTS), f"context refused: SOP class {ready.sop_class}: {'; '.join(hindrances)}"

    async def _turned_into(self, syntax: str, ready: Ready, path: str, request: StoreRequest) -> Judged:
        """Send the object in another transfer syntax; raises MessageError when that cannot be made."""
        if syntax == ready.syntax:
            return await self._sent_alone(ready, request)
        assert self._transcoder is not None
        made = await self._transcoder.transcode(path, syntax)
        try:
            other = await self._ready(made, replace(request, spooled=made_of(request.spooled, made, syntax)))
        finally:
            with suppress(OSError):  # the open file is all that is needed
                os.unlink(made)
        try:
            return await self._sent_alone(other, request)
        finally:
            other.file.close()

    async def _sent_alone(self, ready: Ready, request: StoreRequest) -> Judged:
        need = Need(ready.sop_class, (ready.syntax,))

        async def send(link: Link) -> int | str:
            found = link.contexts(need)
            return await _sent(link, found[0], ready, request.originator) if found else link.refusals(need)

        answer = await self._over(need, send)
        if isinstance(answer, str):
            return self._outcomes.of_word(CONTEXTS), f"context refused: SOP class {ready.sop_class}: {answer}"
        return self._judged(answer)

    # other requests

    async def _ask(self, delivery: Delivery) -> Judged:
        if self._deidentifier is not None:
            raise Refused("only objects can be de-identified")
        request = dimserequest.decode_request(delivery.payload)
        field = Field.__members__.get(request.kind.replace("-", "_"))
        if field is None:
            raise Refused("the delivery is of no kind that DICOM has")
        need = Need(request.sop_class, (EXPLICIT_LITTLE, IMPLICIT_LITTLE))

        async def ask(link: Link) -> Command | str:
            found = link.contexts(need)
            if not found:
                return link.refusals(need)
            context, dataset = found[0], request.dataset
            if dataset and context.syntax == IMPLICIT_LITTLE:
                dataset = encode(decode(dataset, EXPLICIT_LITTLE), IMPLICIT_LITTLE)
            asked = link.requestor.requests.ask(
                context, field, request.sop_instance, dataset, type_id=request.type_id, destination=request.destination
            )
            return (await asked).command

        answer = await self._over(need, ask)
        if isinstance(answer, str):
            return self._outcomes.of_word(CONTEXTS), f"context refused: SOP class {request.sop_class}: {answer}"
        return self._judged(answer.status, answer.error_id)

    # both

    async def _over(self, need: Need, work: Callable[[Link], Awaitable[T]]) -> T:
        """Work over an association; one that was idle may have ended unseen, and then another one tells what is the matter."""
        last = False
        while True:
            link = await self._pool.borrow(need)
            last, broken = last or not link.used, True
            try:
                done = await work(link)
                broken = False
                return done
            except MessageError:
                broken = False
                raise
            except Aborted:
                raise
            except Retry as error:
                if last:
                    raise Aborted(str(error)) from error
                last = True
            finally:
                self._pool.give_back(link, broken=broken)

    def _judged(self, status: int, error_id: int = 0) -> Judged:
        return self._outcomes.of_status(status, error_id), described(status, error_id)


async def _sent(link: Link, context: Context, ready: Ready, originator: tuple[str, int]) -> int:
    ready.rewind()
    return (await link.requestor.requests.store(context, ready.sop_instance, ready.head, ready.file, originator=originator)).status
