"""Route and transform a typical order: parse, accept, eight steps, encode; and what one call of a site's function costs.

python bench/route_transform.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from hl7_parse import ORM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from broker.engine.calls import Calls
from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation, Receiver
from broker.pipeline.functions import Function
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import Route, compile_route
from broker.pipeline.shape import Mistakes
from broker.pipeline.tables import read_table

ROUTE = """
description: A typical order for a typical receiver.
accept: MSH-9.1 in [ORM, OMG] and PID-3.1 exists
steps:
  - require: [PID-3.1, PID-5.1, ORC-2.1, OBR-4.1]
  - map: {path: PID-8, table: sex}
  - map: {path: OBR-4.1, table: procedures}
  - set: {MSH-3: BROKER, MSH-5: PACS, ZPI-2: "{PID-5.1}, {PID-5.2}"}
  - copy: {from: ORC-2, to: [OBR-2, ORC-3]}
  - format: {path: PID-7.1, to: ZPI-3, date: {to: DD.MM.YYYY}}
  - format: {path: PID-5, case: upper}
  - when: ORC-7.6 in [S, STAT]
    steps: [{set: {OBR-27.6: S}}]
    otherwise: [{set: {OBR-27.6: R}}]
to:
  - send: pacs
"""
TABLES = {"sex": "sent,code\nM,M\nF,F\n", "procedures": "code,to\nCTCHEST,71260\n"}


class Context:
    """What a route that only transforms asks for."""

    now, spooled = "20260302080000", None

    def view(self) -> dict[str, object]:
        """Nothing of the RIS."""
        return {}


def compiled(text: str) -> Route:
    """Return the compiled route."""
    compilation = Compilation(
        protocol="hl7",
        tables={name: read_table(name, table)[0] for name, table in TABLES.items()},
        layouts=shipped_layouts(),
        destinations={"pacs": Receiver("mllp", "hl7")},
        site={"timezone": "UTC"},
        mistakes=Mistakes(),
    )
    route = compile_route(yaml.safe_load(text), "orders", compilation)
    assert not compilation.mistakes.found, compilation.mistakes.found
    return route


def cost(work: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the CPU microseconds of this process for one call, the best of five runs."""
    best, rounds = float("inf"), 50
    for _ in range(5):
        start, count = time.process_time(), 0
        while (spent := time.process_time() - start) < seconds / 5:
            for _ in range(rounds):
                work()
            count += rounds
        best = min(best, spent / count)
    return best * 1e6


def transform(route: Route) -> Callable[[], object]:
    """Return what is done for one message."""

    def work() -> None:
        message = Message.parse(ORM)
        if route.accepts(message):
            route.run(message, Context())  # type: ignore[arg-type]

    return work


def main() -> None:
    """Print what each part costs."""
    bare = cost(lambda: Message.parse(ORM).encode())
    empty = cost(transform(compiled("description: x\nto: [{send: pacs}]")))
    full = cost(transform(compiled(ROUTE)))
    print(f"  {len(ORM)} byte ORM, CPU of one message: encode {bare:.0f} µs, an empty route {empty:.0f} µs, eight steps {full:.0f} µs")
    calls = Calls()
    function = Function("site.py", "def f(message):\n    message.set('PID-2', message.get('PID-3.1'))\n", "f", {}, 1.0)
    message = Message.parse(ORM)
    calls.load([function])
    start, count = time.perf_counter(), 2000
    for _ in range(count):
        calls.call(function, message)
    print(f"  one call of a site's function in its own process {(time.perf_counter() - start) / count * 1e6:.0f} µs of wall time")
    started = time.perf_counter()
    Calls().load([function])
    print(f"  starting that process {(time.perf_counter() - started) * 1e3:.0f} ms")
    calls.close()


if __name__ == "__main__":
    main()
