"""Errors, grouped by who must act.

No message of these ever carries a value taken from a patient's data: they name the place and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class BrokerError(Exception):
    """Base of every error the broker raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file: where it is, what is wrong, and what to write instead."""

    file: str
    line: int
    where: str
    what: str
    instead: str = ""

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}" if self.line else self.file
        return f"{at}: {self.where + ': ' if self.where else ''}{self.what}" + (f" ({self.instead})" if self.instead else "")


class ConfigError(BrokerError):
    """The operator must mend the configuration before anything starts; holds every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class ProtocolError(BrokerError):
    """A peer or this side broke a protocol; the connection cannot go on."""


class LocalProtocolError(ProtocolError):
    """This side asked the protocol core for something its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something its protocol does not allow."""


class MessageError(BrokerError):
    """A message cannot be applied: a person must look at it.

    path: where, as HL7 path ("OBR-4.1") or DICOM keyword; why: the reason, free of patient data;
    code: HL7 table 0357 (100 segment sequence, 101 required field missing, 102 data type, 103 table value
    not found, 200 unsupported message type, 204 unknown key, 205 duplicate key, 207 internal error).
    reject: True when the message is not for us or not understood at all (AR), False when it cannot be applied (AE).
    """

    def __init__(self, path: str, why: str, code: int = 207, *, reject: bool = False) -> None:
        super().__init__(f"{path}: {why}" if path else why)
        self.path = path
        self.why = why
        self.code = code
        self.reject = reject


class DeliveryError(BrokerError):
    """A delivery did not succeed."""


class Retry(DeliveryError):
    """The destination could not take it now; the same delivery may succeed later without anybody acting."""


class NotYet(Retry):
    """The destination answered that it cannot take this one delivery yet; it takes others."""


class Aborted(Retry):
    """The destination gave up, or was given up, in the midst of this delivery, which may be the reason."""


class Refused(DeliveryError):
    """The destination answered that it will not take it; a person must act."""


class StoreError(BrokerError):
    """The store failed; the broker must stop taking messages."""
