"""What an association is asked for with and granted: plain values; `broker.dicom.associate` has their bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_UID = "2.25.156723929384433402407301633367231437214"
IMPLEMENTATION_VERSION = "BROKER_1"
MOST_CONTEXTS = 128

# results of a presentation context, PS3.8 table 9-18
ACCEPTED, USER_REJECTED, NO_REASON, ABSTRACT_NOT_SUPPORTED, TRANSFER_NOT_SUPPORTED = range(5)


@dataclass(frozen=True, slots=True)
class Offer:
    """One presentation context as proposed; what is no UID is left out of it."""

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
class Role:
    """What the requestor may be for a SOP class, PS3.7 D.3.3.4; without a word about it, SCU only."""

    scu: bool = True
    scp: bool = False


class IdentityKind(IntEnum):
    """How a requestor says who it is, PS3.7 D.3.3.7."""

    USER = 1
    PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    JWT = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the requestor: user name, ticket, assertion or token, and the passcode of the user; never shown."""

    kind: int
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """How many operations may be outstanding, PS3.7 D.3.3.3; 0 is no limit."""

    invoked: int = 1  # by the requestor
    performed: int = 1  # by the requestor, of those that the acceptor invokes


@dataclass(frozen=True, slots=True)
class Request:
    """What an A-ASSOCIATE-RQ asks for."""

    calling: str
    called: str
    offers: tuple[Offer, ...]
    max_pdu: int  # bytes this requestor takes in one P-DATA-TF; 0 is no limit
    application: str = APPLICATION_CONTEXT
    version: int = 1  # bits of the protocol version
    roles: Mapping[str, Role] = field(default_factory=dict)  # by SOP class
    window: Window = Window()
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an A-ASSOCIATE-AC grants: the accepted contexts, and the result code of each refused one, by context id."""

    contexts: Mapping[int, Context]
    refused: Mapping[int, int]
    max_pdu: int
    roles: Mapping[str, Role] = field(default_factory=dict)  # by SOP class, of those that were proposed
    window: Window = Window()
    identified: bool = False  # whether the acceptor says that it knows who is there


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 table 9-21."""

    result: int  # 1 permanent, 2 transient
    source: int  # 1 service-user, 2 ACSE, 3 presentation
    reason: int
    why: str = field(default="", compare=False)  # what the numbers cannot say, for this side alone

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.why or _REASONS.get((self.source, self.reason), f"source {self.source} reason {self.reason}")


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


def is_uid(text: str) -> bool:
    """Whether a text is a UID as PS3.5 chapter 9 has it, leading zeros of a component tolerated."""
    return 0 < len(text) <= 64 and text.isascii() and all(map(str.isdigit, text.split(".")))
