"""All destinations' queues."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred, gatherResults, succeed

from broker.engine.delivery import Courier
from broker.model import Delivery


class Couriers:
    """The couriers by destination."""

    def __init__(self, couriers: Iterable[Courier]) -> None:
        self.by_name = {courier.name: courier for courier in couriers}
        self.on_ended: Callable[[Iterable[int]], None] = lambda ids: None  # hears of deliveries that the store knows to have ended
        for courier in self.by_name.values():
            courier.on_ended = self._ended
        self._running = False
        self._leaving: dict[str, int] = {}  # destination -> couriers that end what is under way, before the next one begins
        self._left: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin with what the store still holds."""
        self._running = True
        for courier in self.by_name.values():
            courier.start()

    def replace(self, name: str, courier: Courier | None) -> None:
        """Let a destination's courier end what is under way, and the new one, if any, go on after it: never two at a time."""
        old = self.by_name.pop(name, None)
        if courier is not None:
            self.by_name[name] = courier
            courier.on_ended = self._ended
        self._leaving[name] = self._leaving.get(name, 0) + 1
        (old.stop() if old is not None else succeed(None)).addBoth(self._has_left, name)

    def _ended(self, ids: Iterable[int]) -> None:
        self.on_ended(ids)

    def _has_left(self, _: object, name: str) -> None:
        self._leaving[name] -= 1
        if self._leaving[name]:
            return
        del self._leaving[name]
        if self._running and name in self.by_name:
            self.by_name[name].start()
        if not self._leaving:
            left, self._left = self._left, []
            for done in left:
                done.callback(None)

    def deliver(self, deliveries: tuple[Delivery, ...]) -> None:
        """Hand each destination what was just committed for it, in order."""
        if len(deliveries) == 1:
            self._offer(deliveries[0].destination, deliveries)
            return
        waiting: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            waiting.setdefault(delivery.destination, []).append(delivery)
        for name, one in waiting.items():
            self._offer(name, one)

    def _offer(self, name: str, deliveries: Sequence[Delivery]) -> None:
        if name in self.by_name:  # else it has left the configuration meanwhile
            self.by_name[name].offer(deliveries)

    def rescan(self, destination: str) -> str:
        """Look again at a destination's whole queue, and return its name."""
        if destination in self.by_name:  # else it has left the configuration, and its rows wait for it to come back
            self.by_name[destination].rescan()
        return destination

    def withdraw(self, queued: Mapping[str, Collection[int]]) -> set[int]:
        """Send none of these deliveries from now on, by destination; return those that are being sent at this moment."""
        return {id for name, ids in queued.items() if name in self.by_name for id in self.by_name[name].withdraw(ids)}

    def restore(self, queued: Mapping[str, Collection[int]], *, gone: bool) -> None:
        """Send what the store still has of them; `gone` as `Courier.restore` has it."""
        for name, ids in queued.items():
            if name in self.by_name:
                self.by_name[name].restore(ids, gone=gone)

    @property
    def busy(self) -> bool:
        """Whether anything waits or is under way."""
        return any(courier.busy for courier in self.by_name.values())

    def poll(self) -> None:
        """Renew the leases, and look for what other nodes have queued."""
        for courier in self.by_name.values():
            courier.poll()

    def stop(self) -> Deferred[list[None]]:
        """Let what is under way end; fires when every queue is at rest."""
        self._running = False
        ending = [courier.stop() for courier in self.by_name.values()]
        if self._leaving:
            self._left.append(Deferred())
            ending.append(self._left[-1])
        return gatherResults(ending)
