"""What cases have reached of a route and of the code tables, and what a message goes through."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Change
from broker.pipeline.compilation import Compilation, Observer, Receiver
from broker.pipeline.coverage import Coverage, Share, total
from broker.pipeline.route import Route, compile_route
from broker.pipeline.shape import Mistakes, Place
from broker.pipeline.tables import Table, read_table
from broker.pipeline.trail import Trail
from tests.pipeline.test_route import Engine

ROUTE = """
description: A route.
accept: MSH-9.1 = ORM
steps:
  - when: PID-8 = X
    drop: nobody
  - map: {path: PID-8, table: sex}
to:
  - when: PID-8 = M
    set: {MSH-5: EHR}
    send: ehr
  - when: PID-8 = F
    steps:
      - drop: not here
    send: ehr
"""
RAW = b"MSH|^~\\&|A|B|C|D|2026||ORM^O01|1|P|2.5.1\rPID|1||4711||DOE||1961|"


class Source:
    """A document whose lines are the depths of its places."""

    file = "routes/orders.yaml"

    def __init__(self, value: Any) -> None:
        self.value = value

    def line(self, place: Place) -> int:
        return len(place)


def compiled(watch: Coverage | Trail) -> Route:
    document = yaml.safe_load(ROUTE)
    table, _ = read_table("sex", "sent,code\nM,M\nW,F\nX,X\n")
    observer: Observer = watch.route("orders", Source(document))
    compilation = Compilation(
        protocol="hl7",
        tables={"sex": watch.table(table, "mappings/sex.csv")},
        layouts={},
        destinations={"ehr": Receiver("mllp", "hl7")},
        site={},
        mistakes=Mistakes(),
        observer=observer,
    )
    route = compile_route(document, "orders", compilation)
    assert not [one for one in compilation.mistakes.found if not one.warning]
    return route


def run(route: Route, sex: str) -> Any:
    message = Message.parse(RAW + sex.encode() + b"\r")
    assert route.accepts(message)
    return route.run(message, Engine())


def test_nothing_is_reached_before_anything_ran() -> None:
    coverage = Coverage()
    compiled(coverage)
    (share,) = coverage.shares()
    assert (share.reached, share.percent) == (0, 0.0)
    assert {missed.what for missed in share.missed} >= {"accept never held", "when never held", "when always held", "step map never ran"}
    assert str(share.missed[0]).startswith("routes/orders.yaml:")


def test_each_outcome_counts_by_itself() -> None:
    coverage = Coverage()
    route = compiled(coverage)
    run(route, "M")
    after_one = {str(missed) for missed in coverage.shares()[0].missed}
    assert "routes/orders.yaml:3: when never held" in after_one
    assert any("target never sent to" in missed for missed in after_one)
    run(route, "W")
    run(route, "X")
    (share,) = coverage.shares()
    assert [missed.what for missed in share.missed] == ["target never sent to"]  # its own steps drop everything
    assert share.reached == share.total - 1


def test_rows_that_were_looked_up_are_used_and_reading_all_of_them_uses_none() -> None:
    coverage = Coverage()
    route = compiled(coverage)
    assert coverage.rows() == []
    run(route, "W")
    (share,) = coverage.rows()
    assert (share.name, share.reached, share.total) == ("sex", 1, 3)
    assert [str(missed) for missed in share.missed] == ["mappings/sex.csv:2: row M never used", "mappings/sex.csv:4: row X never used"]
    table: Table = coverage.table(read_table("other", "a,b\n1,2\n")[0], "mappings/other.csv")
    assert len(list(table.rows.items())) == len(list(table.rows.values())) == 1
    assert [share.name for share in coverage.rows()] == ["sex"]


def test_together_counts_the_places_and_not_the_routes() -> None:
    assert total([Share("a", 1, 1, ()), Share("b", 0, 3, ())]) == 25.0
    assert total([]) == 100.0


def test_the_trail_tells_what_each_step_did_in_the_order_it_happened() -> None:
    trail = Trail()
    route = compiled(trail)
    run(route, "W")
    assert trail.entries == []  # not asked for yet
    trail.on = True
    run(route, "W")
    assert [(entry.kind, entry.name, entry.held, entry.depth) for entry in trail.entries] == [
        ("condition", "accept: MSH-9.1 = ORM", True, 0),
        ("condition", "when: PID-8 = X", False, 0),
        ("step", "map", None, 0),
        ("condition", "when: PID-8 = M", False, 0),
        ("condition", "when: PID-8 = F", True, 0),
        ("target", "send", None, 0),
        ("step", "drop", None, 1),
    ]
    mapped, dropped = trail.entries[2], trail.entries[-1]
    assert mapped.changes == (Change("PID-8", "W", "F", "changed"),)
    assert [(one.table, one.key, one.row) for one in mapped.lookups] == [("sex", "W", {"sent": "W", "code": "F"})]
    assert dropped.ended == "dropped: not here"


def test_what_is_sent_stands_with_its_target_and_an_error_with_its_step() -> None:
    trail = Trail()
    route = compiled(trail)
    trail.on = True
    run(route, "M")
    (target,) = [entry for entry in trail.entries if entry.sent]
    assert [sent.destination for sent in target.sent] == ["ehr"]
    trail.entries.clear()
    with pytest.raises(MessageError):
        run(route, "Z")
    failed = trail.entries[-1]
    assert failed.error is not None
    assert (failed.error.path, [one.row for one in failed.lookups]) == ("PID-8", [None])
