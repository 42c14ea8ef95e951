"""Whether a destination is up, from what its deliveries and its echoes say."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from broker.engine.clock import SiteClock
from broker.engine.status import Figures, Part, Status
from broker.obs.metrics import Metrics


@pytest.mark.parametrize(
    ("delivered", "echoed", "up"),
    [(None, None, None), (1, None, True), (0, None, False), (None, 1, True), (None, 0, False), (1, 1, True), (1, 0, False), (0, 1, False)],
)
def test_a_destination_is_up_when_all_that_is_known_of_it_is_good(delivered: int | None, echoed: int | None, up: bool | None) -> None:
    metrics = Metrics()
    if delivered is not None:
        metrics.retried.labels("archive").inc()
        metrics.destination_up.labels("archive").set(delivered)
    if echoed is not None:
        metrics.peer_up.labels("archive").set(echoed)
    status = Status.__new__(Status)
    status._metrics, status._clock = metrics, SiteClock(Clock().seconds, "UTC")
    shown = status._destination(Part("archive", "dicom", "127.0.0.1:104"), Figures({}, {}, {}))
    assert shown.up is up
