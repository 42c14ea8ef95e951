"""Which delivery of a queue leaves next: in order within a lane, several lanes at a time. No clock, no store, no socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from broker.model import Delivery


class Lanes:
    """The known deliveries of one destination.

    A delivery leaves when the one before it in its lane has ended. Among the lanes the lowest id goes first: with a width of one,
    everything leaves in the order of the ids.
    """

    def __init__(self, width: int) -> None:
        self.width = width  # deliveries that may be under way at once
        self.under_way: dict[str, Delivery] = {}  # by lane
        self._waiting: dict[str, deque[Delivery]] = {}  # by lane; none is empty
        self._heads: list[tuple[int, str]] = []  # a heap: the first id of every lane that waits and has nothing under way
        self._held: set[str] = set()
        self._count = 0
        self.size = 0  # bytes of what waits

    def __len__(self) -> int:
        """Return how many deliveries wait."""
        return self._count

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Take deliveries in the order of their ids, but for those of lanes that are held."""
        for delivery in deliveries:
            lane = delivery.lane
            if lane in self._held:
                continue
            self._count += 1
            self.size += len(delivery.payload)
            waiting = self._waiting.get(lane)
            if waiting is not None:
                waiting.append(delivery)
            else:
                self._waiting[lane] = deque((delivery,))
                if lane not in self.under_way:
                    heappush(self._heads, (delivery.id, lane))

    def take(self) -> Delivery | None:
        """Return the delivery that leaves now; None when none may."""
        if not self._heads or len(self.under_way) >= self.width:
            return None
        lane = heappop(self._heads)[1]
        waiting = self._waiting[lane]
        delivery = self.under_way[lane] = waiting.popleft()
        if not waiting:
            del self._waiting[lane]
        self._count -= 1
        self.size -= len(delivery.payload)
        return delivery

    def end(self, delivery: Delivery) -> None:
        """Let the next one of the lane leave: this one is delivered, or set aside."""
        lane = delivery.lane
        del self.under_way[lane]
        if lane in self._waiting:
            heappush(self._heads, (self._waiting[lane][0].id, lane))

    def put_back(self, delivery: Delivery) -> None:
        """Let a delivery that was under way leave once more, before all others of its lane."""
        lane = delivery.lane
        del self.under_way[lane]
        self._waiting.setdefault(lane, deque()).appendleft(delivery)
        self._count += 1
        self.size += len(delivery.payload)
        heappush(self._heads, (delivery.id, lane))

    def hold(self, delivery: Delivery) -> None:
        """Forget the lane of a delivery that was under way, until it is released; then all of it is to be put in again."""
        lane = delivery.lane
        del self.under_way[lane]
        forgotten = self._waiting.pop(lane, ())
        self._count -= len(forgotten)
        self.size -= sum(len(one.payload) for one in forgotten)
        self._held.add(lane)

    def release(self, lane: str) -> None:
        """Take deliveries of the lane again."""
        self._held.discard(lane)

    def forget(self) -> None:
        """Drop all that waits; what is under way stays."""
        self._waiting.clear()
        self._heads.clear()
        self._count = self.size = 0

    def ids(self) -> set[int]:
        """Return the ids of what waits or is under way."""
        waiting = {delivery.id for lane in self._waiting.values() for delivery in lane}
        return waiting.union(delivery.id for delivery in self.under_way.values())
