"""The cases beside the shipped routes hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.config.files import read_document
from broker.pipeline.cases import Case, failures, read_cases
from broker.pipeline.shape import Mistakes
from tests.pipeline.department import Department, shipped

CONFIG = shipped()


def _cases() -> Iterator[Case]:
    for channel in CONFIG.channels:
        assert channel.cases is not None
        document = read_document(channel.cases, channel.cases.name, {})
        mistakes = Mistakes()
        cases = read_cases(document.value, mistakes, file=document.file, line=document.line)
        assert not document.problems
        assert not mistakes.found
        assert cases
        yield from cases


@pytest.mark.parametrize("case", list(_cases()), ids=lambda case: f"{case.file}:{case.line} {case.name}")
def test_case(case: Case) -> None:
    department = Department(CONFIG)
    happened = department.run(case)
    department.close()
    assert failures(case, happened) == []
