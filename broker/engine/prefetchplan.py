"""Which events set off a prefetch of prior studies, and which ones end it."""

from __future__ import annotations

from collections.abc import Iterable

from broker.config.models import Prefetch, PrefetchRule
from broker.ris.entities import Exam
from broker.ris.events import Event
from broker.ris.records import Records
from broker.store import prefetches
from broker.store.engine import Transaction

_ENDING = frozenset({"exam.cancelled", "exam.discontinued"})


def follow(tx: Transaction, records: Records, wanted: Prefetch, events: Iterable[Event], now: str) -> None:
    """Plan, move and cancel prefetches as these events ask for, in the transaction that makes them; `now`: YYYYMMDDHHMMSS."""
    for event in events:
        if event.exam_id is None:
            continue
        exam = records.get(Exam, event.exam_id)
        if event.name in _ENDING:
            prefetches.cancel(tx, exam.id)
            continue
        starts = now[:12] if event.name == "exam.arrived" else exam.scheduled_at[:12] or now[:12]
        if event.name == "exam.changed":
            prefetches.postpone(tx, exam.id, starts)
        for rule in wanted.rules:
            if event.name in rule.events and applies(rule, exam):
                prefetches.plan(tx, exam.id, exam.accession, rule.name, starts)


def applies(rule: PrefetchRule, exam: Exam) -> bool:
    """Whether a rule is for this exam, and knows anything that is relevant to it."""
    part = part_of(rule, exam)
    chosen = (
        (not rule.modalities or exam.modality in rule.modalities)
        and (not rule.procedures or exam.procedure_code in rule.procedures)
        and (not rule.parts or part in rule.parts)
    )
    return chosen and bool(rule.relevance.wanted(exam.modality, part))


def part_of(rule: PrefetchRule, exam: Exam) -> str:
    """Return the body part of an exam, "" when the table of a rule does not tell."""
    return rule.relevance.body_part(exam.procedure_code, exam.procedure_name)
