"""What this side asks over an association, whichever side opened it: requests go out, each waits for its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.internet.defer import Deferred, DeferredLock

from broker.connectors.dicom_outflow import Pace, stream
from broker.dicom import dimse
from broker.dicom.dimse import Command, Field, Status
from broker.dicom.happenings import Message
from broker.dicom.negotiation import Context
from broker.errors import Aborted, DeliveryError, Refused

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange

MOST_DATASET = 1 << 20  # bytes of the dataset of one response
_PENDING = (Status.PENDING, 0xFF01)


@dataclass(frozen=True, slots=True)
class Reply:
    """One response, with its dataset as it came: in the transfer syntax of its presentation context."""

    command: Command
    dataset: bytes = b""


class _Asked:
    """A request that waits for its last response."""

    def __init__(self, context: Context, on_pending: Callable[[Reply], None] | None) -> None:
        self.done: Deferred[Reply] = Deferred()
        self.context, self.on_pending = context, on_pending


class Requests:
    """The requests of one association; messages leave one after the other, answers may come in any order.

    `ask`, `store` and `echo` raise Retry when the association ends or no answer comes within `patience` seconds.
    """

    def __init__(self, shell: Exchange, clock: Any, patience: float) -> None:
        self._shell, self._clock, self._patience = shell, clock, patience
        self._asked: dict[int, _Asked] = {}
        self._turn = DeferredLock()  # the fragments of one message follow each other
        self._message_id = 0
        self._reply: tuple[_Asked | None, Command, bytearray] | None = None  # whose dataset is being read
        self._timer: Any = None
        self.pace: Pace | None = None  # of what `store` sends

    @property
    def open(self) -> bool:
        """Whether an answer is still due."""
        return bool(self._asked)

    # requests

    async def ask(
        self,
        context: Context,
        field: Field,
        instance: str = "",
        dataset: bytes = b"",
        *,
        type_id: int = 0,
        destination: str = "",
        attributes: Iterable[int] = (),
        priority: int = 0,
        on_pending: Callable[[Reply], None] | None = None,
    ) -> Reply:
        """Send a request with a dataset at hand; return the last response, after those that are pending went to `on_pending`."""
        message_id, asked = self._expect(context, on_pending)
        command = dimse.request(
            field,
            message_id,
            context.abstract,
            instance,
            with_dataset=bool(dataset),
            type_id=type_id,
            destination=destination,
            attributes=attributes,
            priority=priority,
        )
        await self._in_turn(lambda: self._write(context, command, dataset), asked)
        return await asked.done

    def cancel(self) -> None:
        """Send C-CANCEL for each request under way."""
        for message_id, asked in self._asked.items():
            self.say(asked.context, dimse.cancel(message_id))

    def say(self, context: Context, command: bytes, dataset: bytes = b"") -> None:
        """Send what nobody answers, as an answer itself: behind the message that is on its way, whose fragments belong together."""
        if self._turn.locked:
            self._turn.run(self._write, context, command, dataset)
        else:
            self._write(context, command, dataset)

    async def store(
        self, context: Context, instance: str, head: bytes, file: BinaryIO, *, originator: tuple[str, int] = ("", 0), priority: int = 0
    ) -> Command:
        """Send C-STORE of `head` and then of the open file from where it stands; return the response."""
        message_id, asked = self._expect(context, None)
        command = dimse.request(Field.C_STORE, message_id, context.abstract, instance, originator=originator, priority=priority)

        async def send() -> None:
            self._write(context, command)
            if self._shell.core.can_send:
                await stream(self._shell, context.id, head, file, self._watch, self.pace)

        try:
            await self._in_turn(send, asked)
        except OSError as error:  # half a dataset is on its way: the association is of no more use
            asked.done.addErrback(lambda failure: None)
            self._shell.abandon()
            raise Refused(f"the object cannot be read from the spool: {type(error).__name__}") from error
        return (await asked.done).command

    def echo(self, context: Context) -> Deferred[Command]:
        """Send C-ECHO; fires with the response."""
        return Deferred.fromCoroutine(self.ask(context, Field.C_ECHO)).addCallback(lambda reply: reply.command)

    def _expect(self, context: Context, on_pending: Callable[[Reply], None] | None) -> tuple[int, _Asked]:
        self._message_id = self._message_id % 0xFFFF + 1
        asked = self._asked[self._message_id] = _Asked(context, on_pending)
        self._watch()
        return self._message_id, asked

    async def _in_turn(self, send: Callable[[], Any], asked: _Asked) -> None:
        """Send when no other message is on its way; the answer tells when the association ended meanwhile."""
        await self._turn.acquire()
        try:
            if not asked.done.called:
                sending = send()
                if sending is not None:
                    await sending
        finally:
            self._turn.release()

    def _write(self, context: Context, command: bytes, dataset: bytes = b"") -> None:
        if self._shell.core.can_send:
            self._shell.write(self._shell.core.message(context.id, command, dataset))

    def heard(self) -> None:
        """The peer is at work for what is asked, as with the objects of a C-GET: patience begins anew."""
        self._watch()

    # what comes back

    def on_response(self, message: Message) -> bool:
        """Take a response; return whether one was due."""
        command = message.command
        asked = self._asked.get(command.message_id)
        if command.has_dataset:
            self._reply = (asked, command, bytearray())
        elif asked is not None:
            self._answered(asked, command, b"")
        return asked is not None

    @property
    def is_reading(self) -> bool:
        """Whether the dataset of a response is being read."""
        return self._reply is not None

    def on_data(self, view: memoryview, last: bool) -> None:
        """Take a piece of that dataset; one that is too large ends the association."""
        assert self._reply is not None
        asked, command, gathered = self._reply
        if len(gathered) + len(view) > MOST_DATASET:
            self._reply = None
            self._shell.on_fault("response too large")
            self._shell.abort()
            return
        gathered += view
        if last:
            self._reply = None
            if asked is not None:
                self._answered(asked, command, bytes(gathered))

    def _answered(self, asked: _Asked, command: Command, dataset: bytes) -> None:
        if command.status in _PENDING:
            self._watch()
            if asked.on_pending is not None:
                asked.on_pending(Reply(command, dataset))
            return
        del self._asked[command.message_id]
        self._watch()
        if not asked.done.called:
            asked.done.callback(Reply(command, dataset))

    def fail(self, error: DeliveryError) -> None:
        """Whatever is waited for will not come."""
        self._unwatch()
        waiting, self._asked = self._asked, {}
        for asked in waiting.values():
            asked.done.errback(error)

    # patience

    def _watch(self) -> None:
        self._unwatch()
        if self._asked:
            self._timer = self._clock.callLater(self._patience, self._too_late)

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _too_late(self) -> None:
        self._timer = None
        self.fail(Aborted(f"no answer in {self._patience:g} s"))
        self._shell.abandon()
