"""FUZZ=100 makes every property run a hundred times the examples, and other ones each time (`make fuzz`)."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

TIMES = int(os.environ.get("FUZZ", "1"))
ATTRIBUTE = "_hypothesis_internal_use_settings"  # where @settings leaves them; there is no public way to change them afterwards


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        test = getattr(item, "function", None)
        if TIMES > 1 and hasattr(test, ATTRIBUTE):
            written = getattr(test, ATTRIBUTE)
            setattr(test, ATTRIBUTE, settings(written, max_examples=written.max_examples * TIMES, derandomize=False))
