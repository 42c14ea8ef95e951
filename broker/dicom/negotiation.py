"""A-ASSOCIATE PDUs to and from plain values; pynetdicom's PDU classes do the coding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from broker.errors import RemoteProtocolError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_UID = "2.25.156723929384433402407301633367231437214"
IMPLEMENTATION_VERSION = "BROKER_1"
MOST_CONTEXTS = 128

# results of a presentation context, PS3.8 table 9-18
ACCEPTED, USER_REJECTED, NO_REASON, ABSTRACT_NOT_SUPPORTED, TRANSFER_NOT_SUPPORTED = range(5)


@dataclass(frozen=True, slots=True)
class Offer:
    """One presentation context as proposed."""

    id: int
    abstract: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """One presentation context as accepted."""

    id: int
    abstract: str
    syntax: str


@dataclass(frozen=True, slots=True)
class Request:
    """What an A-ASSOCIATE-RQ asks for."""

    calling: str
    called: str
    offers: tuple[Offer, ...]
    max_pdu: int  # bytes this requestor takes in one P-DATA-TF; 0 is no limit
    application: str = APPLICATION_CONTEXT
    version: int = 1  # bits of the protocol version


@dataclass(frozen=True, slots=True)
class Answer:
    """What an A-ASSOCIATE-AC grants: the accepted contexts, and the result code of each refused one, by context id."""

    contexts: Mapping[int, Context]
    refused: Mapping[int, int]
    max_pdu: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 table 9-21."""

    result: int  # 1 permanent, 2 transient
    source: int  # 1 service-user, 2 ACSE, 3 presentation
    reason: int

    @property
    def text(self) -> str:
        """The reason in words."""
        return _REASONS.get((self.source, self.reason), f"source {self.source} reason {self.reason}")


_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}

APPLICATION_NOT_SUPPORTED = Rejection(1, 1, 2)
CALLING_NOT_RECOGNISED = Rejection(1, 1, 3)
CALLED_NOT_RECOGNISED = Rejection(1, 1, 7)
VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
LIMIT_EXCEEDED = Rejection(2, 3, 2)

Decide = Callable[[Offer], str | int]  # the transfer syntax taken, or the result code of the refusal


def read_request(pdu: bytes) -> Request:
    """Return what a whole A-ASSOCIATE-RQ PDU asks for; raises RemoteProtocolError."""
    try:
        decoded = A_ASSOCIATE_RQ()
        decoded.decode(pdu)
        asked = decoded.to_primitive()
        offers = tuple(
            Offer(int(c.context_id or 0), str(c.abstract_syntax or ""), tuple(map(str, c.transfer_syntax)))
            for c in asked.presentation_context_definition_list
        )
        return Request(
            calling=decoded.calling_ae_title.strip(),
            called=decoded.called_ae_title.strip(),
            offers=offers,
            max_pdu=asked.maximum_length_received or 0,
            application=str(asked.application_context_name or ""),
            version=decoded.protocol_version,
        )
    except Exception as error:  # whatever a hostile PDU raises in the decoder
        raise RemoteProtocolError("A-ASSOCIATE-RQ cannot be decoded") from error


def write_request(request: Request) -> bytes:
    """Return the A-ASSOCIATE-RQ PDU."""
    primitive = _primitive(request.calling, request.called, request.max_pdu)
    primitive.presentation_context_definition_list = [_context(o.id, o.abstract, o.syntaxes) for o in request.offers]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def write_accept(request: Request, decide: Decide, max_pdu: int) -> tuple[bytes, Answer]:
    """Return the A-ASSOCIATE-AC PDU and what it grants; `max_pdu` is what this side takes, in bytes."""
    granted: dict[int, Context] = {}
    refused: dict[int, int] = {}
    results = []
    for offer in request.offers:
        verdict = decide(offer) if offer.syntaxes and offer.abstract else TRANSFER_NOT_SUPPORTED
        result = _context(offer.id, offer.abstract, [verdict] if isinstance(verdict, str) else offer.syntaxes[:1])
        if isinstance(verdict, str):
            granted[offer.id] = Context(offer.id, offer.abstract, verdict)
            result.result = ACCEPTED
        else:
            refused[offer.id] = result.result = verdict
        results.append(result)
    primitive = _primitive(request.calling, request.called, max_pdu)
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = results
    return bytes(A_ASSOCIATE_AC(primitive).encode()), Answer(granted, refused, request.max_pdu)


def read_accept(pdu: bytes, request: Request) -> Answer:
    """Return what a whole A-ASSOCIATE-AC PDU grants of the request; raises RemoteProtocolError."""
    try:
        decoded = A_ASSOCIATE_AC()
        decoded.decode(pdu)
        answer = decoded.to_primitive()
        offers = {offer.id: offer for offer in request.offers}
        granted: dict[int, Context] = {}
        refused: dict[int, int] = {}
        for result in answer.presentation_context_definition_results_list:
            number = int(result.context_id or 0)
            if number not in offers:
                raise ValueError("a context that was not proposed")
            syntax = str(result.transfer_syntax[0]) if result.transfer_syntax else ""
            if result.result == ACCEPTED and syntax in offers[number].syntaxes:
                granted[number] = Context(number, offers[number].abstract, syntax)
            else:
                refused[number] = result.result or NO_REASON
        return Answer(granted, refused, answer.maximum_length_received or 0)
    except Exception as error:  # whatever a hostile PDU raises in the decoder
        raise RemoteProtocolError("A-ASSOCIATE-AC cannot be decoded") from error


def write_reject(rejection: Rejection) -> bytes:
    """Return the A-ASSOCIATE-RJ PDU."""
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = rejection.result, rejection.source, rejection.reason
    return bytes(A_ASSOCIATE_RJ(primitive).encode())


def _primitive(calling: str, called: str, max_pdu: int) -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    length, uid, version = MaximumLengthNotification(), ImplementationClassUIDNotification(), ImplementationVersionNameNotification()
    length.maximum_length_received = max_pdu
    uid.implementation_class_uid = UID(IMPLEMENTATION_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION
    primitive.user_information = [length, uid, version]
    return primitive


def _context(number: int, abstract: str, syntaxes: tuple[str, ...] | list[str]) -> PresentationContext:
    context = PresentationContext()
    context.context_id = number
    context.abstract_syntax = UID(abstract)
    context.transfer_syntax = list(syntaxes)
    return context
