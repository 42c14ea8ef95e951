"""The DICOM upper layer of one association, both roles: bytes in, happenings out; no socket, no clock.

P-DATA of datasets is neither kept nor decoded: it leaves as views of the bytes that came in.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.dicom import dimse, pdus
from broker.dicom.associate import read_accept, read_request, write_accept, write_reject, write_request
from broker.dicom.happenings import (
    Aborted,
    Accepted,
    Close,
    Connect,
    Data,
    Fault,
    Happening,
    Message,
    Rejected,
    Released,
    ReleaseRequested,
    Requested,
    StartTimer,
    StopTimer,
    Timer,
    Write,
)
from broker.dicom.negotiation import VERSION_NOT_SUPPORTED, Answer, Context, Decide, Rejection, Request, Window
from broker.dicom.pdus import DATA_HEAD, HEAD, PDU, PDV, Limits, abort_pdu
from broker.dicom.states import TABLE, Effect, Input, State
from broker.errors import LocalProtocolError, RemoteProtocolError

_INPUTS = {1: Input.RQ_PDU, 2: Input.AC_PDU, 3: Input.RJ_PDU, 5: Input.RELEASE_RQ_PDU, 6: Input.RELEASE_RP_PDU, 7: Input.ABORT_PDU}
_DATA_PDU = 4
_UNBOUNDED = 1 << 17  # what this side sends at once to a peer without a limit
_LEAST_PDU = 64  # a peer's limit below this leaves no room for data
_NOTHING = memoryview(b"")
_UNCONNECTED = (State.IDLE, State.CONNECTING)
_READING = (State.ESTABLISHED, State.AWAIT_RELEASE)


class Association:
    """One association; every call returns what the shell has to do, in order.

    `rest` holds what the last `receive` left unread: it stops after each whole message and each question, so that the shell may
    pause or answer there.
    Local calls that the state does not allow raise LocalProtocolError; a peer's faults never raise, they abort.
    """

    def __init__(self, *, acceptor: bool, limits: Limits | None = None) -> None:
        self.acceptor = acceptor
        self.limits = limits or Limits()
        self.state = State.IDLE
        self.contexts: dict[int, Context] = {}
        self.max_data = 0  # most bytes of one PDV the peer takes
        self.rest = _NOTHING
        self._out: list[Happening] = []
        self._request: Request | None = None
        self._deaf = False  # framing is lost, or nothing of the peer counts any more
        self._whole = False
        self._head = bytearray()
        self._body: tuple[int, int, bytearray] | None = None  # control PDU: kind, length, what is there
        self._skip = 0
        self._pdu_left = 0
        self._fragment = 0
        self._is_command = self._is_last = False
        self._context = 0  # of the PDV at hand
        self._command: bytearray | None = None  # of the command set being gathered
        self._message_context = 0  # of the message being read, 0 between messages
        self._expects_data = False

    # the local user

    def associate(self, request: Request) -> list[Happening]:
        """As requestor: ask for the transport connection."""
        self._request = request
        return self._local(Input.ASSOCIATE)

    def connected(self) -> list[Happening]:
        """The transport connection is there: send the request, or await one."""
        if self.acceptor:
            return self._local(Input.ACCEPTED_CONNECTION)
        if self._request is None:
            raise LocalProtocolError("connected before an association was asked for")
        return self._local(Input.CONNECTED, write_request(self._request))

    def accept(self, decide: Decide, *, identified: bool = False, window: Window = Window()) -> list[Happening]:  # noqa: B008 - it is frozen
        """As acceptor: grant the contexts that `decide` takes, and so many outstanding operations.

        `identified` tells a requestor that asks that its user is known.
        """
        if self._request is None:
            raise LocalProtocolError("nothing to accept")
        pdu, answer = write_accept(self._request, decide, self.limits.max_pdu, identified=identified, window=window)
        out = self._local(Input.ANSWER_ACCEPT, pdu)
        self._grant(answer)
        return out

    def reject(self, rejection: Rejection) -> list[Happening]:
        """As acceptor: refuse the association."""
        return self._local(Input.ANSWER_REJECT, write_reject(rejection))

    def release(self) -> list[Happening]:
        """Ask the peer to release."""
        return self._local(Input.RELEASE, pdus.RELEASE_RQ)

    def release_answer(self) -> list[Happening]:
        """Agree to the peer's release."""
        return self._local(Input.ANSWER_RELEASE, pdus.RELEASE_RP)

    def abort(self) -> list[Happening]:
        """Abort as service-user."""
        return self._local(Input.ABORT)

    def lost(self) -> list[Happening]:
        """The transport connection is gone; inside a PDU or a message that is a fault of the peer."""
        if (self.state, Input.LOST) not in TABLE:
            return []
        cut = self.state is not State.AWAIT_CLOSE and not self._deaf and self.is_inside
        out = self._local(Input.LOST)
        return [*out, Fault("truncated")] if cut else out

    @property
    def is_inside(self) -> bool:
        """Whether a PDU or a message of the peer has begun and not ended."""
        pdu = self._head or self._body is not None or self._pdu_left or self._fragment
        return bool(pdu or self._command is not None or self._expects_data)

    def expired(self, timer: Timer) -> list[Happening]:
        """A timer ran out; one that no longer matters is ignored."""
        happened = Input.TIMER_EXPIRED if timer is Timer.ARTIM else Input.ABORT
        if (self.state, happened) not in TABLE or (timer is Timer.IDLE and self.state is not State.ESTABLISHED):
            return []
        return self._local(happened)

    # sending data

    @property
    def can_send(self) -> bool:
        """Whether P-DATA may be sent now."""
        return (self.state, Input.SEND_DATA) in TABLE

    def message(self, context: int, command: bytes, dataset: bytes = b"") -> bytes:
        """Return the P-DATA-TF PDUs of a command set, and of a dataset that is at hand as a whole."""
        parts = self._fragments(context, command, 1)
        if dataset:
            parts += self._fragments(context, dataset, 0)
        return b"".join(parts)

    def data_head(self, context: int, length: int, last: bool) -> bytes:
        """Return the head of a P-DATA-TF PDU of one data fragment of `length` bytes, at most `max_data`."""
        if not self.can_send or context not in self.contexts or not 0 <= length <= self.max_data:
            raise LocalProtocolError("data cannot be sent now, there, or in this length")
        return DATA_HEAD.pack(_DATA_PDU, length + HEAD, length + 2, context, 2 if last else 0)

    def _fragments(self, context: int, data: bytes, control: int) -> list[bytes]:
        if not self.can_send or context not in self.contexts:
            raise LocalProtocolError("data cannot be sent now, or not in this context")
        parts = []
        for at in range(0, len(data), self.max_data):
            piece = data[at : at + self.max_data]
            last = 2 if at + self.max_data >= len(data) else 0
            parts += [DATA_HEAD.pack(_DATA_PDU, len(piece) + HEAD, len(piece) + 2, context, control | last), piece]
        return parts

    # receiving

    def receive(self, view: memoryview) -> list[Happening]:
        """Read on until the end of the view or of a message; what is left stands in `rest`."""
        out = self._out = []
        self._whole = False
        at, end = 0, len(view)
        while at < end and not self._whole:
            if self._deaf or self.state in _UNCONNECTED:
                at = end
            elif self._fragment:
                at = self._read_fragment(view, at, end)
            elif self._body is not None:
                at = self._read_body(view, at, end)
            elif self._skip:
                take = min(self._skip, end - at)
                self._skip -= take
                at += take
            else:
                at = self._read_head(view, at, end)
        self.rest = view[at:]
        return out

    def _read_head(self, view: memoryview, at: int, end: int) -> int:
        take = min(HEAD - len(self._head), end - at)
        self._head += view[at : at + take]
        if len(self._head) == HEAD:
            head, self._head = bytes(self._head), bytearray()
            if self._pdu_left:
                self._pdv(*PDV.unpack(head))
            else:
                self._pdu(*PDU.unpack(head))
        return at + take

    def _pdu(self, kind: int, length: int) -> None:
        if kind == _DATA_PDU:
            self._data_pdu(length)
        elif kind not in _INPUTS:
            self._invalid("unrecognised PDU", pdus.UNRECOGNISED_PDU)
        elif (length > self.limits.associate) if kind in (1, 2) else (length != 4):
            self._invalid("PDU length", pdus.INVALID_PARAMETER)
        else:
            self._body = (kind, length, bytearray())
            if not length:
                self._control(kind, b"")

    def _data_pdu(self, length: int) -> None:
        if self.state not in _READING:  # else DT-2 and AR-6: the state stays, the contents are passed on
            self._remote(Input.DATA_PDU)
            self._skip = length
        elif not HEAD <= length <= self.limits.max_pdu:
            self._invalid("P-DATA length", pdus.INVALID_PARAMETER)
        else:
            self._pdu_left = length

    def _pdv(self, length: int, context: int, control: int) -> None:
        self._pdu_left -= HEAD
        fragment = length - 2
        self._is_command, self._is_last = bool(control & 1), bool(control & 2)
        if not 0 <= fragment <= self._pdu_left or 0 < self._pdu_left - fragment < HEAD:
            self._invalid("PDV length", pdus.INVALID_PARAMETER)
        elif context not in self.contexts:
            self._invalid("presentation context not accepted", pdus.INVALID_PARAMETER)
        elif self._message_context and context != self._message_context:
            self._invalid("presentation context changed inside a message", pdus.INVALID_PARAMETER)
        elif self._is_command == self._expects_data:
            self._invalid("command and data out of order", pdus.UNEXPECTED_PARAMETER)
        elif self._is_command and len(self._command or b"") + fragment > self.limits.command:
            self._invalid("command set too long", pdus.INVALID_PARAMETER)
        else:
            self._context, self._fragment = context, fragment
            self._pdu_left -= fragment
            if not fragment:
                self._piece(_NOTHING)

    def _read_fragment(self, view: memoryview, at: int, end: int) -> int:
        take = min(self._fragment, end - at)
        self._fragment -= take
        self._piece(view[at : at + take])
        return at + take

    def _piece(self, piece: memoryview) -> None:
        last = self._is_last and not self._fragment
        if self.state not in _READING:
            return
        if not self._is_command:
            if last:
                self._message_context, self._expects_data, self._whole = 0, False, True
            if last or piece:
                self._out.append(Data(piece, last))
            return
        if self._command is None:
            self._command, self._message_context = bytearray(), self._context
        self._command += piece
        if last:
            self._command_set(bytes(self._command))

    def _command_set(self, data: bytes) -> None:
        self._command = None
        try:
            command = dimse.parse(data)
        except RemoteProtocolError:
            self._invalid("command set", pdus.INVALID_PARAMETER)
            return
        self._out.append(Message(self.contexts[self._context], command))
        self._expects_data = command.has_dataset
        if not command.has_dataset:
            self._message_context, self._whole = 0, True

    def _read_body(self, view: memoryview, at: int, end: int) -> int:
        assert self._body is not None
        kind, length, body = self._body
        take = min(length - len(body), end - at)
        body += view[at : at + take]
        if len(body) == length:
            self._control(kind, bytes(body))
        return at + take

    def _control(self, kind: int, body: bytes) -> None:
        self._body = None
        happened = _INPUTS[kind]
        try:
            _CONTROL[kind](self, happened, body)
        except RemoteProtocolError:
            self._invalid("A-ASSOCIATE cannot be decoded", pdus.INVALID_PARAMETER)

    def _request_pdu(self, happened: Input, body: bytes) -> None:
        if self.state is not State.AWAIT_REQUEST:
            self._remote(happened)
            return
        self._request = request = read_request(PDU.pack(1, len(body)) + body)
        self._set_max_data(request.max_pdu)
        unknown = not request.version & 1
        self._remote(happened, Requested(request), otherwise=unknown, pdu=write_reject(VERSION_NOT_SUPPORTED))
        if unknown:
            self._out.append(Fault(VERSION_NOT_SUPPORTED.text))
        self._whole = True

    def _accept_pdu(self, happened: Input, body: bytes) -> None:
        if self.state is not State.AWAIT_ANSWER or self._request is None:
            self._remote(happened)
            return
        answer = read_accept(PDU.pack(2, len(body)) + body, self._request)
        self._grant(answer)
        self._remote(happened, Accepted(answer))

    def _reject_pdu(self, happened: Input, body: bytes) -> None:
        self._remote(happened, Rejected(Rejection(body[1], body[2], body[3])))

    def _release_request_pdu(self, happened: Input, body: bytes) -> None:
        self._remote(happened, ReleaseRequested(), otherwise=self.acceptor)
        self._whole = True

    def _release_answer_pdu(self, happened: Input, body: bytes) -> None:
        self._remote(happened, Released())

    def _abort_pdu(self, happened: Input, body: bytes) -> None:
        self._step(happened, gone=Aborted("peer", body[2], body[3]))

    # the machine

    def _local(self, happened: Input, pdu: bytes = b"") -> list[Happening]:
        self._out = []
        if (self.state, happened) not in TABLE:
            raise LocalProtocolError(f"{happened.name} is not allowed in state {self.state.name}")
        gone = Aborted("transport") if happened is Input.LOST else None
        self._step(happened, pdu=pdu, gone=gone)
        return self._out

    def _remote(self, happened: Input, tell: Happening | None = None, *, otherwise: bool = False, pdu: bytes = b"") -> None:
        """Let a PDU of the peer happen; one that its state does not allow ends in an abort, by the table."""
        before, meant = self.state, otherwise and TABLE[self.state, happened].otherwise is not None
        self._step(happened, tell=tell, otherwise=otherwise, pdu=pdu, reason=pdus.UNEXPECTED_PDU)
        if self.state is State.AWAIT_CLOSE and before is not State.AWAIT_CLOSE and not meant:
            self._out.append(Fault("unexpected PDU"))

    def _invalid(self, what: str, reason: int) -> None:
        self._step(Input.INVALID_PDU, reason=reason)
        self._out.append(Fault(what))
        self._deaf = True

    def _step(
        self,
        happened: Input,
        *,
        tell: Happening | None = None,
        pdu: bytes = b"",
        otherwise: bool = False,
        reason: int = pdus.NOT_SPECIFIED,
        gone: Aborted | None = None,
    ) -> None:
        action = TABLE[self.state, happened]
        if otherwise and action.otherwise:
            action = action.otherwise
        was_open, self.state = self.state is State.ESTABLISHED, action.next
        told = {
            Effect.TELL: tell,
            Effect.TELL_ABORT: gone or Aborted("local", pdus.AS_PROVIDER, reason),
            Effect.SEND: Write(pdu),
            Effect.REJECT: Write(pdu),
            Effect.ABORT_AS_PROVIDER: Write(abort_pdu(pdus.AS_PROVIDER, reason)),
        }
        for effect in action.effects:
            happening = _ORDERS.get(effect) or told.get(effect)
            if happening is not None:
                self._out.append(happening)
        if was_open != (self.state is State.ESTABLISHED):
            self._out.append(StopTimer(Timer.IDLE) if was_open else StartTimer(Timer.IDLE))

    def _grant(self, answer: Answer) -> None:
        self.contexts = dict(answer.contexts)
        self._set_max_data(answer.max_pdu)

    def _set_max_data(self, max_pdu: int) -> None:
        self.max_data = (min(max(max_pdu, _LEAST_PDU) if max_pdu else _UNBOUNDED, _UNBOUNDED) - HEAD) & ~1  # fragments have even lengths


_ORDERS: dict[Effect, Happening] = {
    Effect.CONNECT: Connect(),
    Effect.CLOSE: Close(),
    Effect.START_TIMER: StartTimer(Timer.ARTIM),
    Effect.STOP_TIMER: StopTimer(Timer.ARTIM),
    Effect.ABORT_AS_USER: Write(abort_pdu(pdus.AS_USER, pdus.NOT_SPECIFIED)),
}

_CONTROL: dict[int, Callable[[Association, Input, bytes], None]] = {
    1: Association._request_pdu,
    2: Association._accept_pdu,
    3: Association._reject_pdu,
    5: Association._release_request_pdu,
    6: Association._release_answer_pdu,
    7: Association._abort_pdu,
}
