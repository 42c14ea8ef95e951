"""What the answer of a DICOM peer means for a delivery: by table, and by what a destination's settings say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from broker.dicom.performedstep import MAY_NO_LONGER_BE_UPDATED
from broker.errors import NotYet, Refused, Retry
from broker.spec import Option


class Outcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    WARNING = "warning"  # delivered, with a remark that is kept
    RETRY = "retry"  # the destination waits, as it cannot take anything
    LATER = "later"  # this delivery waits, others go on; after `retry: tries` it is for a person
    REFUSE = "refuse"  # for a person at once


REJECTED, BUSY, CONTEXTS = "rejected", "busy", "contexts"

OUTCOMES = Option(
    "outcomes",
    "mapping",
    "What an answer means where the defaults do not fit: a status as `A700` or `A700-A7FF`, `rejected` (association rejected for good), "
    "`busy` (rejected for now) or `contexts` (no transfer syntax of an object is accepted), and one of `delivered`, `warning`, `retry` "
    "(the whole destination waits), `later` (this delivery waits, and is parked after `retry: tries`) and `refuse` (parked).",
    default={},
    example={"A900": "warning", "0110": "retry", "rejected": "refuse"},
)

# Status (PS3.7 annex C, PS3.4 B.2.3 and C.4.2.1.5), first to last; what stands nowhere is refused.
_TABLE: tuple[tuple[int, int, Outcome], ...] = (
    (0x0000, 0x0000, Outcome.DELIVERED),
    (0x0001, 0x0001, Outcome.WARNING),
    (0x0107, 0x0107, Outcome.WARNING),
    (0x0110, 0x0110, Outcome.LATER),
    (0x0111, 0x0111, Outcome.WARNING),  # it has the instance: from a first attempt whose answer was lost, or from elsewhere
    (0x0112, 0x0112, Outcome.LATER),  # an N-SET may come before what it is about
    (0x0116, 0x0116, Outcome.WARNING),
    (0x0213, 0x0213, Outcome.RETRY),
    (0xA700, 0xA7FF, Outcome.RETRY),
    (0xB000, 0xBFFF, Outcome.WARNING),
)
# Error ID (0000,0903), which says more than the status it comes with
_ERRORS = {MAY_NO_LONGER_BE_UPDATED: Outcome.WARNING}  # the end of a step is there, from a first attempt whose answer was lost
_ERROR_MEANING = {MAY_NO_LONGER_BE_UPDATED: "may no longer be updated"}
_WORDS = {REJECTED: Outcome.RETRY, BUSY: Outcome.RETRY, CONTEXTS: Outcome.REFUSE}
_FAILED = {
    REJECTED: (Outcome.RETRY, Outcome.REFUSE),
    BUSY: (Outcome.RETRY, Outcome.REFUSE),
    CONTEXTS: (Outcome.RETRY, Outcome.LATER, Outcome.REFUSE),
}

_MEANING: tuple[tuple[int, int, str], ...] = (
    (0x0107, 0x0107, "attribute list error"),
    (0x0110, 0x0110, "processing failure"),
    (0x0111, 0x0111, "duplicate SOP instance"),
    (0x0112, 0x0112, "no such SOP instance"),
    (0x0116, 0x0116, "attribute value out of range"),
    (0x0117, 0x0117, "invalid SOP instance"),
    (0x0118, 0x0118, "no such SOP class"),
    (0x0120, 0x0120, "missing attribute"),
    (0x0122, 0x0122, "SOP class not supported"),
    (0x0124, 0x0124, "not authorised"),
    (0x0211, 0x0211, "unrecognised operation"),
    (0x0213, 0x0213, "resource limitation"),
    (0xA801, 0xA801, "move destination unknown"),
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "data set does not match SOP class"),
    (0xB000, 0xB000, "coercion of data elements"),
    (0xB006, 0xB006, "elements discarded"),
    (0xB007, 0xB007, "data set does not match SOP class"),
    (0xC000, 0xCFFF, "cannot understand"),
    (0xFE00, 0xFE00, "cancelled"),
)
_RANGE = re.compile(r"(?:0x)?([0-9A-Fa-f]{4})(?:-(?:0x)?([0-9A-Fa-f]{4}))?")


class Outcomes:
    """The policy of one destination."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._own = [(*found, Outcome(outcome)) for key, outcome in settings.items() if (found := _range(key))]
        self._words = {**_WORDS, **{key: Outcome(outcome) for key, outcome in settings.items() if key in _WORDS}}

    def of_status(self, status: int, error_id: int = 0) -> Outcome:
        """Return what a status means, with its Error ID; what the settings name last counts before what they name first."""
        of_error = [(status, status, _ERRORS[error_id])] if error_id in _ERRORS else []
        for first, last, outcome in (*reversed(self._own), *of_error, *_TABLE):
            if first <= status <= last:
                return outcome
        return Outcome.REFUSE

    def of_word(self, word: str) -> Outcome:
        """Return what `rejected`, `busy` or `contexts` means."""
        return self._words[word]


def settle(outcome: Outcome, why: str) -> str:
    """Return the answer of what is delivered; raise what the other outcomes are."""
    if outcome is Outcome.DELIVERED:
        return why
    if outcome is Outcome.WARNING:
        return f"{why}, taken with a warning"
    raise {Outcome.RETRY: Retry, Outcome.LATER: NotYet}.get(outcome, Refused)(why)


def described(status: int, error_id: int = 0) -> str:
    """Return a status as people read it: "0xA700 out of resources", with its Error ID in brackets."""
    text = next((words for first, last, words in _MEANING if first <= status <= last), "")
    error = f"(0x{error_id:04X} {_ERROR_MEANING.get(error_id, '')}".rstrip() + ")" if error_id else ""
    return " ".join(filter(None, (f"0x{status:04X}", text, error)))


def check_outcomes(settings: object) -> Iterable[str]:
    """Yield what is wrong with an `outcomes` setting."""
    if not isinstance(settings, Mapping):
        return
    for key, value in settings.items():
        if not isinstance(key, str):
            yield f"{key} is read as a number; write it in quotes, as a status of four hexadecimal digits"
        elif key not in _WORDS and not _range(key):
            yield f"{key} is no status or range of them, as A700 or A700-A7FF, nor one of {', '.join(_WORDS)}"
        if value not in tuple(Outcome):
            yield f"{key}: write one of {', '.join(Outcome)}"
        elif key in _WORDS and value not in _FAILED[key]:
            yield f"{key}: nothing was delivered; write {' or '.join(_FAILED[key])}"


def _range(key: str) -> tuple[int, int] | None:
    match = _RANGE.fullmatch(key)
    if match is None:
        return None
    first, last = int(match[1], 16), int(match[2] or match[1], 16)
    return (first, last) if first <= last else None
