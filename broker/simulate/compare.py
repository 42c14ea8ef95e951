"""What the peers counted beside what the broker counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.config import callbacks
from broker.simulate.morning import Player
from broker.simulate.peers import Peers, Places
from broker.simulate.plan import Morning

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure from both sides."""

    what: str
    peers: int
    broker: int

    @property
    def equal(self) -> bool:
        """Return whether both sides counted the same."""
        return self.peers == self.broker


def compare(morning: Morning, player: Player, peers: Peers, places: Places, before: Json, after: Json) -> list[Check]:
    """Return every figure that both sides know; the broker's are those since `before`."""
    return [*_taken(player, peers, before, after), *_delivered(peers, places, before, after), *_led_to(morning, peers, before, after)]


def _taken(player: Player, peers: Peers, before: Json, after: Json) -> Iterable[Check]:
    """Compare what was sent to the broker."""
    sent = peers.ehr.codes + peers.author.codes
    answered = _since(before, after, lambda status: _listeners(status, "mllp", "acknowledged"))
    for code in sorted(sent | answered):
        yield Check(f"HL7 messages answered {code}", sent[code], answered[code])
    yield Check("HL7 messages repeated by a sender", player.repeated, _since(before, after, _duplicates)["mllp"])
    received = _since(before, after, lambda status: _listeners(status, "dicom", "received"))
    modalities = peers.modalities.values()
    yield Check("images stored by the modalities", sum(len(m.stored) for m in modalities), received["C-STORE"])
    steps = sum(m.acknowledged for m in modalities)
    yield Check("performed procedure step requests", steps, received["N-CREATE"] + received["N-SET"])
    yield Check("requests for storage commitment", sum(m.asked for m in modalities), received["N-ACTION"])


def _delivered(peers: Peers, places: Places, before: Json, after: Json) -> Iterable[Check]:
    """Compare what the broker delivered."""
    delivered = _since(before, after, _by_port)
    sinks = {
        "HL7 messages to the EHR": (places.ehr_hl7_port, len(peers.ehr.inbox.accepted)),
        "HL7 messages to the archive": (places.archive_hl7_port, len(peers.archive.hl7.accepted)),
        "HL7 messages to billing": (places.billing_hl7_port, len(peers.billing.accepted)),
        "images to the archive": (places.archive_dicom_port, len(peers.archive.images.distinct)),
    }
    for what, (port, count) in sinks.items():
        yield Check(what, count, delivered[str(port)])
    reports = sum(len(modality.reports) for modality in peers.modalities.values())
    yield Check("reports of storage commitment", reports, _since(before, after, _reports)[callbacks.KIND])
    made = {uid: digest for modality in peers.modalities.values() for uid, digest in modality.stored.items()}
    kept = peers.archive.images.distinct
    same = sum(made.get(uid) == image["PixelDigest"] for uid, image in kept.items())
    yield Check("images in the archive with the very pixels", same, delivered[str(places.archive_dicom_port)])


def _led_to(morning: Morning, peers: Peers, before: Json, after: Json) -> Iterable[Check]:
    """Compare what the morning should lead to with the broker's state."""
    planned, exams = morning.exams(), _since(before, after, lambda status: status["exams"])
    for state in sorted(planned | exams):
        yield Check(f"exams {state.replace('_', ' ')}", planned[state], exams[state])
    yield Check("charges, as planned and as billed", morning.charges(), len(peers.billing.charges))
    yield Check("entries of the reconciliation list", 2, after["unmatched_total"] - before["unmatched_total"])


def _since(before: Json, after: Json, read: Any) -> Counter[str]:
    """Return how much each figure has grown."""
    grown = Counter({str(name): int(count) for name, count in read(after).items()})
    grown.subtract({str(name): int(count) for name, count in read(before).items()})
    return Counter({name: count for name, count in grown.items() if count})


def _listeners(status: Json, kind: str, figure: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for listener in status["listeners"]:
        if listener["kind"] == kind:
            total.update(listener[figure])
    return total


def _duplicates(status: Json) -> Counter[str]:
    total: Counter[str] = Counter()
    for listener in status["listeners"]:
        total[listener["kind"]] += listener["duplicates"]
    return total


def _reports(status: Json) -> Counter[str]:
    return Counter({callbacks.KIND: sum(one["delivered"] for one in status["destinations"] if one["kind"] == callbacks.KIND)})


def _by_port(status: Json) -> Counter[str]:
    total: Counter[str] = Counter()
    for destination in status["destinations"]:
        total[destination["address"].rpartition(":")[2]] += destination["delivered"]
    return total
