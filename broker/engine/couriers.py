"""All destinations' queues."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, gatherResults

from broker.engine.delivery import Courier
from broker.model import Delivery


class Couriers:
    """The couriers by destination."""

    def __init__(self, couriers: Iterable[Courier]) -> None:
        self.by_name = {courier.name: courier for courier in couriers}

    def start(self) -> None:
        """Begin with what the store still holds."""
        for courier in self.by_name.values():
            courier.start()

    def deliver(self, deliveries: tuple[Delivery, ...]) -> None:
        """Hand each destination what was just committed for it, in order."""
        if len(deliveries) == 1:
            self.by_name[deliveries[0].destination].offer(deliveries)
            return
        waiting: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            waiting.setdefault(delivery.destination, []).append(delivery)
        for name, one in waiting.items():
            self.by_name[name].offer(one)

    def rescan(self, destination: str) -> str:
        """Look again at a destination's whole queue, and return its name."""
        if destination in self.by_name:  # else it has left the configuration, and its rows wait for it to come back
            self.by_name[destination].rescan()
        return destination

    def poll(self) -> None:
        """Renew the leases, and look for what other nodes have queued."""
        for courier in self.by_name.values():
            courier.poll()

    def stop(self) -> Deferred[list[None]]:
        """Let what is under way end; fires when every queue is at rest."""
        return gatherResults([courier.stop() for courier in self.by_name.values()])
