"""The cases beside the shipped routes hold, run as `broker test` runs them; and a case that does not hold says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config.files import read_document
from broker.config.load import load
from broker.config.models import Channel
from broker.connectors import registry
from broker.engine.rehearsal import Rehearsal
from broker.pipeline.cases import Case, failures, read_cases
from broker.pipeline.shape import Mistakes

ROOT = Path(__file__).parents[2]
CONFIG = load(ROOT / "channels.yaml", {}, registry)


def _cases() -> Iterator[tuple[Channel, Case]]:
    for channel in CONFIG.channels:
        assert channel.cases is not None
        document = read_document(channel.cases, channel.cases.name, {})
        mistakes = Mistakes()
        cases = read_cases(document.value, mistakes, file=document.file, line=document.line)
        assert not document.problems
        assert not mistakes.found
        assert cases
        yield from ((channel, case) for case in cases)


CASES = list(_cases())


@pytest.mark.parametrize(("channel", "case"), CASES, ids=[f"{case.file}:{case.line} {case.name}" for _, case in CASES])
def test_a_shipped_case_holds(channel: Channel, case: Case) -> None:
    assert failures(case, Rehearsal(CONFIG).run(case, channel.source, ROOT)) == []


def test_what_does_not_hold_is_said_with_what_happened_instead() -> None:
    channel, case = next((channel, case) for channel, case in CASES if channel.name == "orders")
    document = [
        {"name": "wrong", "given": case.given.file, "expect": {"answer": "AE", "sent": "none", "state": {"exam": {"modality": "MR"}}}}
    ]
    (wrong,) = read_cases(document, Mistakes())
    found = failures(wrong, Rehearsal(CONFIG).run(wrong, channel.source, ROOT))
    assert found == [
        "answer: expected AE, was AA",
        "exam.modality: expected MR, was CT",
        "sent to archive_hl7: expected nothing, was OMI^O23",
        "sent to ehr: expected nothing, was SIU^S12",
    ]
