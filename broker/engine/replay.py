"""Shadow replay: stored messages run through what runs now and through a candidate, side by side, and the results compared.

Both sides start with nothing and first take in all that the journal holds about the same patients, as what runs now, so that
orders, exams and images find what they found when they arrived. Nothing is sent, and the store is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from broker.config.models import Config
from broker.engine.shadow import Happened, Shadow
from broker.engine.tally import Tally
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Journaled
from broker.ris.entities import Exam, Step
from broker.store import history
from broker.store.history import Made, Wanted

PIECE = 500  # messages read at once

Look = Callable[..., Any]  # runs fn(tx, *args) on the store, read only
Progress = Callable[[int, int], None]  # messages done, and of how many

# what two configurations may number differently, and nobody is told
_RECORDS: tuple[tuple[type, str], ...] = ((Exam, "accession"), (Step, "sps_id"))
_NUMBERED = frozenset({"id", "order_id", "patient_id", "exam_id"})


class Replay:
    """One comparison."""

    def __init__(self, running: Config, candidate: Config, spool: Path, look: Look, most: int) -> None:
        """`most`: examples kept of each difference. Raises ConfigError when the site's own functions cannot be loaded."""
        self._candidate, self._look, self.tally = candidate, look, Tally(most=most)
        self._after = Shadow(candidate, spool)
        self._before = Shadow(running, spool, self._after.keywords)
        self._after.become(running)

    def run(self, which: Wanted, progress: Progress = lambda done, of: None) -> Tally:
        """Return the differences; raises StoreError."""
        look, tally = self._look, self.tally
        ids: list[int] = look(history.wanted, which)
        compared = set(ids)
        context, made = self._led_up(ids)
        order = sorted(compared | context)
        has_become = False
        states: dict[int, str] = {}
        for done, row in enumerate(self._rows(order), 1):
            if not has_become and row.received_at >= which.since:
                self._after.become(self._candidate)
                has_become = True
            both = self._take(row, made.get(row.id))
            if row.id not in compared:
                tally.context += 1
            elif both is not None:
                tally.compare(row, *both)
                states[row.id] = row.state
            progress(done, len(order))
        self._sum_up(states)
        return tally

    def close(self) -> None:
        """Let both sides go."""
        self._before.close()
        self._after.close()

    def _take(self, row: Journaled, made: Made | None) -> tuple[Happened, Happened] | None:
        """Return what becomes of a message on both sides, None when it is not there any more."""
        try:
            return self._before.take(row, made), self._after.take(row, made)
        except (OSError, MessageError):
            self.tally.gone += 1
            return None

    def _rows(self, ids: list[int]) -> Iterator[Journaled]:
        for at in range(0, len(ids), PIECE):
            yield from self._look(history.messages, ids[at : at + PIECE])

    def _led_up(self, ids: list[int]) -> tuple[set[int], Mapping[int, Made]]:
        """Return the messages that the patients of these have had before, and the identifiers that all of them were given."""
        if not ids:
            return set(), {}
        people: set[int] = set()
        for at in range(0, len(ids), PIECE):
            rows = self._look(history.messages, ids[at : at + PIECE])
            unplaced = [row for row in rows if row.state in ("parked", "refused")]
            accessions = {row.accession for row in rows if row.accession}
            people |= self._look(history.patients, [row.id for row in rows], set(_identifiers(unplaced)), accessions)
        context, everybody = self._look(history.history, people, ids[-1])
        return context - set(ids), self._look(history.made, everybody)

    def _sum_up(self, states: Mapping[int, str]) -> None:
        """Compare the RIS in the end, and what became of the messages with what the journal says."""
        for kind, key in _RECORDS:
            self.tally.compare_records(kind.__name__.lower(), key, self._before.records(kind), self._after.records(kind), _NUMBERED)
        for id, state in states.items():
            if self._before.states.get(id, state) != state:
                self.tally.otherwise += 1
                if len(self.tally.otherwise_examples) < self.tally.most:
                    self.tally.otherwise_examples.append(id)


def _identifiers(rows: Iterable[Journaled]) -> Iterator[str]:
    """Yield the patient identifiers of HL7 messages that reached no patient when they came, but may now."""
    for row in rows:
        if row.protocol == "hl7":
            try:
                message = Message.parse(row.raw)
                if identifier := message.get("PID-3.1"):
                    yield identifier
            except MessageError:
                continue
