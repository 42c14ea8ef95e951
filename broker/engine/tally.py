"""What two configurations made of the same messages, counted by kind of difference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any

from broker.dicom.difference import changes as header_changes
from broker.dicom.dimserequest import attributes_of
from broker.dicom.performedstep import RELAYED
from broker.dicom.storerequest import decode_request
from broker.engine.shadow import Happened
from broker.errors import MessageError
from broker.hl7.difference import difference
from broker.hl7.message import Message
from broker.model import Change, Delivery, Journaled

_EXAMPLES = 3  # messages named of each difference
_OWN_ID = re.compile(r"\d+\.\d+")  # MSH-10 of what the broker builds: the number of a message, and a count
_PLACE = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Example:
    """One place where one message came out differently; the values are patient data."""

    message_id: int
    before: str
    after: str


@dataclass(slots=True)
class Difference:
    """One kind of difference, over all messages that show it."""

    what: str  # "field": of a delivery; "delivery": gained or lost; "outcome": of the message; "record": of the RIS, in the end
    where: str  # destination and kind of message, "archive_hl7 OMI^O23"; the messages' own kind; the record's kind
    path: str  # OBR-4.1; "gained", "lost"; "routed -> parked"; the record's field
    change: str  # changed, added, removed, moved; the reason of an outcome
    messages: int = 0
    examples: list[Example] = field(default_factory=list)
    _last: int = -1  # the message counted last

    def add(self, example: Example, most: int) -> None:
        """Count a message, once."""
        if self._last == example.message_id and example.message_id:
            return
        self.messages += 1
        self._last = example.message_id
        if len(self.examples) < most:
            self.examples.append(example)


@dataclass(slots=True)
class Tally:
    """The differences, and how far the comparison reached."""

    most: int = _EXAMPLES  # examples of each difference
    compared: int = 0
    differing: int = 0
    context: int = 0  # earlier messages of the same patients, run before
    gone: int = 0  # objects that are not in the spool any more
    otherwise: int = 0  # messages that came out otherwise than when they arrived, although nothing of the configuration had changed
    otherwise_examples: list[int] = field(default_factory=list)
    found: dict[tuple[str, str, str, str], Difference] = field(default_factory=dict)

    def compare(self, row: Journaled, before: Happened, after: Happened) -> None:
        """Count what became of one message under both."""
        self.compared += 1
        known = sum(one.messages for one in self.found.values())
        if (before.state, before.code, before.reason) != (after.state, after.code, after.reason):
            self._outcome(row, before, after)
        self._deliveries(row, before.sent, after.sent)
        self.differing += sum(one.messages for one in self.found.values()) != known

    def compare_records(self, kind: str, key: str, before: Iterable[Any], after: Iterable[Any], leave_out: frozenset[str]) -> None:
        """Count what differs among records of the RIS that have the same key."""
        left, right = ({getattr(one, key): one for one in side if getattr(one, key)} for side in (before, after))
        for name in sorted({*left, *right}):
            one, other = left.get(name), right.get(name)
            if one is None or other is None:
                self._add("record", kind, "gained" if one is None else "lost", "", 0, "", "")
                continue
            for place in fields(one):
                old, new = getattr(one, place.name), getattr(other, place.name)
                if old != new and place.name not in leave_out:
                    self._add("record", kind, place.name, "changed", 0, str(old), str(new))

    def differences(self) -> list[Difference]:
        """Return the differences, those of most messages first."""
        return sorted(self.found.values(), key=lambda one: (-one.messages, one.what, one.where, one.path))

    def _outcome(self, row: Journaled, before: Happened, after: Happened) -> None:
        states = f"{before.state} -> {after.state}" if before.state != after.state else f"{after.state} for another reason"
        self._add("outcome", row.kind or "unreadable", states, after.reason or before.reason, row.id, before.reason, after.reason)

    def _deliveries(self, row: Journaled, before: Sequence[Delivery], after: Sequence[Delivery]) -> None:
        left, right = _by_target(before), _by_target(after)
        for target in {**left, **right}:
            where = " ".join(target)
            for old, new in zip_longest(left.get(target, ()), right.get(target, ())):
                if old is None or new is None:
                    self._add("delivery", where, "gained" if old is None else "lost", "", row.id, "", "")
                elif old.payload != new.payload:
                    for change in _changes(old, new):
                        self._add("field", where, _PLACE.sub("", change.path), change.kind, row.id, change.before, change.after)

    def _add(self, what: str, where: str, path: str, change: str, id: int, before: str, after: str) -> None:
        one = self.found.setdefault((what, where, path, change), Difference(what, where, path, change))
        one.add(Example(id, before, after), self.most)


def _by_target(sent: Sequence[Delivery]) -> Mapping[tuple[str, str], list[Delivery]]:
    found: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in sent:
        found.setdefault((delivery.destination, delivery.kind), []).append(delivery)
    return found


def _changes(old: Delivery, new: Delivery) -> list[Change]:
    """Return what differs between two deliveries but for what the broker numbers itself."""
    try:
        if new.kind == "C-STORE":
            before, after = decode_request(old.payload).changes, decode_request(new.payload).changes
            return header_changes(before, {**dict.fromkeys(before, ""), **after})
        if new.kind in RELAYED:
            before, after = attributes_of(old.payload), attributes_of(new.payload)
            return header_changes(before, {**dict.fromkeys(before, ""), **after})
        found = difference(Message.parse(old.payload), Message.parse(new.payload))
    except MessageError:
        return [Change("", "", "", "changed")]
    return [one for one in found if not (one.path == "MSH-10" and _OWN_ID.fullmatch(one.before) and _OWN_ID.fullmatch(one.after))]


def masked(text: str) -> str:
    """Return a value's shape: letters as x, digits as 9."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "x", text))
