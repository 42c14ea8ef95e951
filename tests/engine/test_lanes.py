"""Which delivery leaves next: order within a lane, nothing lost, nothing twice, whatever happens to those under way."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.engine.lanes import Lanes
from broker.model import Delivery


def delivery(id: int, lane: str) -> Delivery:
    return Delivery(id, id, "ehr", lane, "c", "ADT^A04", b"", "", "", 0)


def lanes(width: int, *waiting: str) -> Lanes:
    made = Lanes(width)
    made.put(delivery(id, lane) for id, lane in enumerate(waiting, 1))
    return made


def taken(queue: Lanes) -> list[int]:
    found = []
    while (one := queue.take()) is not None:
        found.append(one.id)
    return found


def test_with_a_width_of_one_everything_leaves_in_the_order_of_the_ids() -> None:
    queue = lanes(1, "b", "a", "b", "c", "a")
    order = []
    while (one := queue.take()) is not None:
        assert queue.take() is None
        order.append(one.id)
        queue.end(one)
    assert order == [1, 2, 3, 4, 5]


def test_as_many_lanes_as_it_is_wide_are_under_way_one_delivery_of_each() -> None:
    assert taken(lanes(2, "a", "a", "b", "c")) == [1, 3]
    assert taken(lanes(9, "a", "a", "b", "c")) == [1, 3, 4]


def test_what_is_put_back_leaves_again_before_all_others_of_its_lane() -> None:
    queue = lanes(1, "a", "a")
    first = queue.take()
    assert first is not None
    queue.put_back(first)
    assert (len(queue), queue.take()) == (2, first)


def test_a_held_lane_is_forgotten_until_it_is_released_and_put_in_again() -> None:
    queue = lanes(2, "a", "b", "a", "b")
    first = queue.take()
    assert first is not None
    queue.hold(first)
    queue.put([delivery(5, "a")])
    assert (taken(queue), len(queue), queue.ids()) == ([2], 1, {2, 4})
    queue.release("a")
    queue.put([delivery(id, "a") for id in (1, 3, 5)])
    assert (taken(queue), len(queue)) == ([1], 3)


def test_forgetting_leaves_what_is_under_way() -> None:
    queue = lanes(1, "a", "a", "b")
    first = queue.take()
    assert first is not None
    queue.forget()
    assert (len(queue), queue.ids()) == (0, {1})
    queue.put([delivery(2, "a"), delivery(3, "b")])
    queue.end(first)
    assert taken(queue) == [2]


class Machine(RuleBasedStateMachine):
    """A courier that does anything a courier may do, in any order, beside a store that knows what has not ended."""

    @initialize(width=st.integers(1, 4))
    def begin(self, width: int) -> None:
        self.lanes = Lanes(width)
        self.store: list[Delivery] = []
        self.ended: list[Delivery] = []
        self.held: list[str] = []

    @rule(lane=st.sampled_from("abcde"))
    def arrive(self, lane: str) -> None:
        self.store.append(delivery(len(self.store) + len(self.ended) + 1, lane))
        self.lanes.put(self.store[-1:])

    @rule()
    def take(self) -> None:
        idle = {d.lane for d in self.store} - self.lanes.under_way.keys() - set(self.held)
        may = len(self.lanes.under_way) < self.lanes.width and idle
        one = self.lanes.take()
        assert (one is not None) == bool(may)
        if one is not None:
            assert one == next(d for d in self.store if d.lane in idle)  # the oldest of all that may leave
            assert one.lane not in self.held

    @precondition(lambda self: self.lanes.under_way)
    @rule(data=st.data(), how=st.sampled_from(["end", "end", "put_back", "hold"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        one = self.lanes.under_way[data.draw(st.sampled_from(sorted(self.lanes.under_way)))]
        getattr(self.lanes, how)(one)
        if how == "end":
            self.store.remove(one)
            self.ended.append(one)
        elif how == "hold":
            self.held.append(one.lane)

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        self.lanes.release(self.held.pop())
        self.look_again()

    @rule()
    def look_again(self) -> None:
        self.lanes.forget()
        self.lanes.put(d for d in self.store if d.id not in self.lanes.ids())

    @invariant()
    def nothing_is_lost_and_lanes_keep_their_order(self) -> None:
        if not hasattr(self, "lanes"):
            return
        assert len(self.lanes.under_way) <= self.lanes.width
        assert self.lanes.ids() == {d.id for d in self.store if d.lane not in self.held}
        assert len(self.lanes) == len(self.lanes.ids()) - len(self.lanes.under_way)
        for lane in "abcde":
            ids = [d.id for d in self.ended if d.lane == lane]
            assert ids == sorted(set(ids))


TestLanes = Machine.TestCase
