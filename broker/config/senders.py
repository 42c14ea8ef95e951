"""Which modalities can be asked what a study has: each is also a DICOM destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.config.models import Destination
from broker.config.session import Session
from broker.pipeline.shape import did_you_mean


def check_senders(session: Session, asked: Mapping[str, Any], destinations: Sequence[Destination]) -> None:
    """Note each calling AE title whose destination is none of DICOM's."""
    known = [one.name for one in destinations if one.kind == "dicom"]
    for title, name in asked.items():
        if name not in known:
            session.problem(("complete", "ask", title), f"there is no DICOM destination {name}", did_you_mean(str(name), known))
