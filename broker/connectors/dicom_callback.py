"""The call-back: what a peer has asked for is told over the association that asked, or over a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from broker.connectors.dicom_commitment import Lines
from broker.connectors.dicom_identity import identity_of
from broker.connectors.dicom_requestor import Requestor, connect, offers
from broker.connectors.tls import credentials
from broker.dicom.commitment import PUSH_MODEL
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode
from broker.dicom.dimse import Field, Status
from broker.dicom.dimserequest import DimseRequest, decode_request
from broker.dicom.negotiation import Context, Request, Role
from broker.errors import Refused, Retry
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange

_SYNTAXES = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_MAX_PDU = 1 << 17
_CONNECT = 10.0  # seconds
_PATIENCE = 60.0  # seconds for the answer
_NOWHERE = "the association that asked is closed, and the peer has no host and port to call back"


class CallBack:
    """Delivers N-EVENT-REPORTs: over the association that asked, or over a new one, where this side is the SCP (PS3.4 J.3.4)."""

    width = 1

    def __init__(self, name: str, settings: Mapping[str, Any], reactor: Any, lines: Lines, metrics: Metrics, log: Log) -> None:
        """`settings`: `addresses` has by AE title what `dicom_peers.address_of` returns. Raises `security.tls.Unusable`."""
        self.name = name
        self._settings, self._reactor, self._lines, self._log = settings, reactor, lines, log.bind(destination=name)
        self._credentials = {
            title: credentials(f"{settings['listener']}.{title}", address["tls"], metrics, log, address["host"])
            for title, address in settings["addresses"].items()
        }

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the status as "0x0000"; fail with `Retry` or `Refused`."""
        return Deferred.fromCoroutine(self._send(delivery))

    async def _send(self, delivery: Delivery) -> str:
        request = decode_request(delivery.payload)
        line = self._lines.find(self._settings["listener"], delivery.lane)
        address = self._settings["addresses"].get(delivery.lane)
        if line is not None and (self._settings["answer"] == "same" or address is None):
            try:
                return await _report(*line, request)
            except Retry:  # it was closed before the answer
                if address is None:
                    raise Refused(_NOWHERE) from None
        if address is None:
            raise Refused(_NOWHERE)
        return await self._call(delivery.lane, address, request)

    async def _call(self, title: str, address: Mapping[str, Any], request: DimseRequest) -> str:
        contexts = offers([(PUSH_MODEL, syntax) for syntax in _SYNTAXES])
        roles, identity = {PUSH_MODEL: Role(scu=False, scp=True)}, identity_of(address)
        asked = Request(self._settings["ae_title"], title, contexts, _MAX_PDU, roles=roles, identity=identity)
        link = Requestor(asked, self._reactor, self._log, patience=_PATIENCE)
        where = self._reactor, address["host"], address["port"], link, _CONNECT
        await connect(*where, credentials=self._credentials[title])
        try:
            context = next((found for syntax in _SYNTAXES if (found := link.context_for(PUSH_MODEL, syntax))), None)
            if context is None:
                raise Refused("the peer does not take reports of storage commitment over an association of ours")
            return await _report(link, context, request)
        finally:
            link.release()

    def close(self) -> Deferred[None]:
        """Nothing stays open between two reports."""
        return succeed(None)


async def _report(exchange: Exchange, context: Context, request: DimseRequest) -> str:
    dataset = request.dataset
    if context.syntax != EXPLICIT_LITTLE:
        dataset = encode(decode(dataset, EXPLICIT_LITTLE), context.syntax)
    reply = await exchange.requests.ask(context, Field.N_EVENT_REPORT, request.sop_instance, dataset, type_id=request.type_id)
    status = reply.command.status
    if status != Status.SUCCESS:
        raise Refused(f"status 0x{status:04X}")
    return f"0x{status:04X}"
