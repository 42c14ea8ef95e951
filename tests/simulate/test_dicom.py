"""The edges of the simulator's use of pynetdicom; real associations are in tests/interop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.simulate.dicom import NO_ANSWER, _leave_answers_alone, heard, status_of


def test_the_loop_of_pynetdicom_takes_no_response_from_its_caller() -> None:
    queue = ["response"]
    opened: Any = SimpleNamespace(dimse=SimpleNamespace(get_msg=lambda block: (1, queue.pop())))
    _leave_answers_alone(opened)
    assert opened.dimse.get_msg() == (None, None)
    assert opened.dimse.get_msg(block=False) == (None, None)
    assert opened.dimse.get_msg(block=True) == (1, "response")


def test_once_requests_are_heard_the_loop_takes_them() -> None:
    class Dimse:
        def get_msg(self, block: bool = False) -> tuple[int, str]:
            return 1, "request"

    opened: Any = SimpleNamespace(dimse=Dimse())
    _leave_answers_alone(opened)
    heard(opened)
    assert opened.dimse.get_msg() == (1, "request")


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (0xB000, 0xB000), (None, NO_ANSWER)])
def test_a_response_without_a_status_is_no_answer(status: int | None, expected: int) -> None:
    answer = Dataset()
    if status is not None:
        answer.Status = status
    assert status_of(answer) == expected
    assert status_of(None) == NO_ANSWER
