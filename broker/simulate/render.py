"""The demo on a screen: progress while it runs, tables when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from broker.simulate.demo import Result
from broker.simulate.morning import Progress

PLAIN_STEPS = 10  # lines for each kind of progress when there is no terminal


class Display:
    """Shows progress: bars on a terminal, a line now and then elsewhere. Use as a context manager, give `report` to `run_morning`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn("[dim]{task.fields[last]}"), console=console
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def report(self, progress: Progress) -> None:
        """Show one step."""
        if not self._console.is_terminal:
            step = max(1, progress.of // PLAIN_STEPS)
            if progress.done % step == 0 or progress.done == progress.of:
                self._console.print(f"{progress.what} {progress.done}/{progress.of}", highlight=False)
            return
        if progress.what not in self._tasks:
            self._tasks[progress.what] = self._bars.add_task(progress.what, total=progress.of, last="")
        self._bars.update(self._tasks[progress.what], completed=progress.done, last=escape(progress.text))


def render(result: Result) -> list[RenderableType]:
    """Return what the demo ends with, from top to bottom."""
    return [
        _exams(result),
        _channels(result),
        _destinations(result),
        _parked(result.after),
        _unmatched(result.after),
        _timeline(result.trace),
        _checks(result),
        *(Text(f"not as planned: {problem}", style="red") for problem in result.problems),
        _summary(result),
    ]


def _exams(result: Result) -> Table:
    counts = _grown(result, lambda status: status["exams"])
    return _table("exams by state", ("state", "exams"), sorted(counts.items()))


def _channels(result: Result) -> Table:
    before = {item["name"]: item for item in result.before["channels"]}
    rows = [
        (item["name"], item["source"], *(item[figure] - before.get(item["name"], {}).get(figure, 0) for figure in ("routed", "dropped")))
        for item in result.after["channels"]
    ]
    return _table("messages and images by channel", ("channel", "from", "routed", "dropped"), rows)


def _destinations(result: Result) -> Table:
    before = {item["name"]: item for item in result.before["destinations"]}
    rows = [
        (
            item["name"],
            item["address"],
            item["delivered"] - before.get(item["name"], {}).get("delivered", 0),
            item["waiting"],
            item["parked"],
        )
        for item in result.after["destinations"]
    ]
    return _table("delivered", ("destination", "address", "delivered", "waiting", "parked"), rows)


def _parked(status: Mapping[str, Any]) -> Table:
    rows = [(f"{p['what']} {p['id']}", p["where"], p["kind"], p["accession"], p["reason"]) for p in status["parked"]]
    return _table(f"parked ({status['parked_total']})", ("what", "where", "kind", "accession", "reason"), rows)


def _unmatched(status: Mapping[str, Any]) -> Table:
    rows = [(u["kind"], u["accession"], u["message_id"], u["reason"]) for u in status["unmatched"]]
    return _table(f"unmatched ({status['unmatched_total']})", ("kind", "accession", "message", "reason"), rows)


def _timeline(trace: Mapping[str, Any]) -> Table:
    rows = [
        (_clock(entry["at"]), entry["what"], entry["kind"], entry["source"], entry["target"], entry["detail"]) for entry in trace["entries"]
    ]
    return _table(f"timeline of {trace['accession']}", ("at", "what", "kind", "from", "to", "detail"), rows)


def _checks(result: Result) -> Table:
    rows = [(check.what, check.peers, check.broker, "equal" if check.equal else "DIFFERENT") for check in result.checks]
    return _table("counted on both sides", ("what", "peers", "broker", ""), rows)


def _summary(result: Result) -> Text:
    sent = f"{result.sent} HL7 messages and {result.images} images in {result.seconds:.1f} s"
    if result.good:
        return Text(f"{sent}: peers and broker counted the same", style="green")
    different = sum(not check.equal for check in result.checks)
    return Text(f"{sent}: {different} counts differ, {len(result.problems)} things went otherwise than planned", style="red")


def _grown(result: Result, read: Any) -> dict[str, int]:
    before, after = read(result.before), read(result.after)
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    shown = [list(row) for row in rows]
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if shown and isinstance(shown[0][number], int) else "left", overflow="fold")
    for row in shown:
        # what a sender gave must not be taken for markup
        table.add_row(*(Text(str(value)) for value in row))
    if not shown:
        table.add_row("none", *("" for _ in heads[1:]))
    return table


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
