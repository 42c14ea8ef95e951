"""The console: plain pages for people, rendered here, escaped by twisted.web.template, without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from twisted.web.template import Tag, flattenString, tags

from broker.model import Entry
from broker.obs.status import (
    ChannelStatus,
    ConfigurationStatus,
    DestinationStatus,
    ExamItem,
    ListenerStatus,
    MessageItem,
    Overview,
    ParkedItem,
    UnmatchedItem,
)
from broker.web.api import message_filter
from broker.web.http import Answer, Asked
from broker.web.status import Status

HTML = "text/html; charset=utf-8"
REFRESH_SECONDS = 5

Cell = str | int | Tag
Table = tuple[Sequence[str], Iterable[Sequence[Cell]]]  # heads, rows

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --dim: #888; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
header { display: flex; gap: 1.5rem; align-items: baseline; flex-wrap: wrap; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--dim); } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .dim { color: var(--dim); }
input { font: inherit; padding: .2rem .4rem; } ul.states { list-style: none; display: flex; gap: 1.2rem; flex-wrap: wrap; padding: 0; }
"""


class Console:
    """The pages that answer HTML."""

    def __init__(self, status: Status) -> None:
        self._status = status

    async def overview(self, asked: Asked) -> Answer:
        """Show the whole broker on one page that renews itself."""
        seen = await self._status.status()
        return await _page(seen.site or "broker", _overview(seen), refresh=True)

    async def trace(self, asked: Asked) -> Answer:
        """Show the timeline of one accession."""
        accession = asked.get("accession")
        if not accession:
            return await _page("timeline", [_form("")])
        trace = await self._status.trace(accession)
        parts = [_form(accession), tags.h2(f"timeline of {accession}")]
        if not trace.entries:
            return await _page("timeline", [*parts, tags.p("nothing is known of this accession", class_="dim")], code=404)
        return await _page("timeline", [*parts, _table(_timeline(trace.entries))])

    async def messages(self, asked: Asked) -> Answer:
        """Show the messages of the journal that match the query."""
        found = await self._status.messages(message_filter(asked.query))
        narrowed = ", ".join(f"{name} {value}" for name, value in asked.query.items() if value) or "newest first"
        return await _page("messages", [tags.h2(f"messages: {narrowed}"), _table(_messages(found))])

    async def style(self, asked: Asked) -> Answer:
        """Answer with the style sheet."""
        return Answer(STYLE.encode(), "text/css; charset=utf-8")


async def _page(title: str, parts: Sequence[Tag], *, refresh: bool = False, code: int = 200) -> Answer:
    head = [
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content="width=device-width"),
        tags.title(f"{title} · broker"),
        tags.link(rel="stylesheet", href="/style.css"),
    ]
    if refresh:
        head.append(tags.meta(**{"http-equiv": "refresh", "content": str(REFRESH_SECONDS)}))
    page = tags.html(tags.head(*head), tags.body(_header(title), *parts), lang="en")
    return Answer(b"<!DOCTYPE html>\n" + await flattenString(None, page), HTML, code)


def _header(title: str) -> Tag:
    links = [tags.a(name, href=path) for name, path in (("overview", "/"), ("timeline", "/trace"), ("messages", "/messages"))]
    return tags.header(tags.h1(title), *links)


def _form(accession: str) -> Tag:
    field = tags.input(name="accession", value=accession, placeholder="accession number", autofocus="autofocus")
    return tags.form(tags.p(field, " ", tags.input(type="submit", value="show")), action="/trace", method="get")


def _overview(seen: Overview) -> list[Tag]:
    up = f"version {seen.version}, up {_age(seen.now - seen.started_at)}, {_clock(seen.now)}"
    return [
        tags.p(up, class_="dim"),
        _configuration(seen.configuration),
        _form(""),
        tags.h2("exams"),
        _states(seen.exams),
        tags.h2("listeners"),
        _table(_listeners(seen.listeners)),
        tags.h2("channels"),
        _table(_channels(seen.channels)),
        tags.h2("destinations"),
        _table(_destinations(seen.destinations)),
        tags.h2(f"parked ({seen.parked_total})"),
        _table(_parked(seen.parked)),
        tags.h2(f"unmatched ({seen.unmatched_total})"),
        _table(_unmatched(seen.unmatched)),
        tags.h2("lately"),
        _table(_recent(seen.recent)),
    ]


def _configuration(one: ConfigurationStatus) -> Tag:
    runs = f"configuration {one.version}, applied {_clock(one.applied_at)} by {one.by}"
    if not one.differing:
        return tags.p(runs, class_="dim")
    return tags.p(f"{runs}; other on disk: {', '.join(one.differing)}", class_="bad")


def _states(exams: Mapping[str, int]) -> Tag:
    if not exams:
        return tags.p("none yet", class_="dim")
    return tags.ul(*(tags.li(tags.strong(str(count)), f" {status}") for status, count in exams.items()), class_="states")


def _listeners(listeners: Iterable[ListenerStatus]) -> Table:
    heads = ("name", "address", "", "connections", "received", "answered", "duplicates")
    rows = (
        (
            item.name,
            f"{item.kind} {item.address}",
            _mark(item.bound, "bound", "not bound"),
            item.connections,
            _counts(item.received),
            _counts(item.acknowledged),
            item.duplicates,
        )
        for item in listeners
    )
    return heads, rows


def _channels(channels: Iterable[ChannelStatus]) -> Table:
    return ("name", "from", "route", "routed", "dropped"), (
        (item.name, item.source, item.route, item.routed, item.dropped) for item in channels
    )


def _destinations(destinations: Iterable[DestinationStatus]) -> Table:
    heads = ("name", "address", "", "waiting", "oldest", "delivered", "retried", "parked")
    rows = (
        (
            item.name,
            f"{item.kind} {item.address}",
            tags.span("not used yet", class_="dim") if item.up is None else _mark(item.up, "up", "down"),
            item.waiting,
            _age(item.oldest_seconds) if item.waiting else "",
            item.delivered,
            item.retried,
            _some(item.parked),
        )
        for item in destinations
    )
    return heads, rows


def _parked(parked: Iterable[ParkedItem]) -> Table:
    return ("at", "what", "where", "kind", "accession", "reason"), (
        (_clock(item.at), f"{item.what} {item.id}", item.where, item.kind, _link(item.accession), item.reason) for item in parked
    )


def _unmatched(unmatched: Iterable[UnmatchedItem]) -> Table:
    return ("entry", "at", "kind", "key", "accession", "message", "reason"), (
        (str(item.id), _clock(item.at), item.kind, item.key, _link(item.accession), str(item.message_id), item.reason) for item in unmatched
    )


def _recent(exams: Iterable[ExamItem]) -> Table:
    return ("accession", "procedure", "modality", "priority", "scheduled", "exam", "report", "images"), (
        (
            _link(item.accession),
            item.procedure_code,
            item.modality,
            item.priority,
            item.scheduled_at,
            item.status,
            item.report_status,
            item.images,
        )
        for item in exams
    )


def _timeline(entries: Iterable[Entry]) -> Table:
    return ("at", "what", "kind", "from", "to", "message", "detail"), (
        (_clock(e.at), e.what, e.kind, e.source, e.target, "" if e.message_id is None else str(e.message_id), e.detail) for e in entries
    )


def _messages(messages: Iterable[MessageItem]) -> Table:
    return ("id", "at", "listener", "kind", "sender", "control id", "state", "answer", "accession", "reason"), (
        (
            str(m.id),
            _clock(m.received_at),
            m.listener,
            m.kind,
            m.sender,
            m.control_id,
            m.state,
            m.code,
            _link(m.accession),
            m.reason,
        )
        for m in messages
    )


def _table(table: Table) -> Tag:
    heads, rows = table
    body = [tags.tr(*(_cell(value) for value in row)) for row in rows]
    if not body:
        return tags.p("none", class_="dim")
    return tags.table(tags.thead(tags.tr(*(tags.th(head) for head in heads))), tags.tbody(*body))


def _cell(value: Cell) -> Tag:
    return tags.td(str(value), class_="number") if isinstance(value, int) else tags.td(value)


def _mark(good: bool, yes: str, no: str) -> Tag:
    return tags.span(yes if good else no, class_="good" if good else "bad")


def _some(count: int) -> Cell:
    return tags.span(str(count), class_="bad") if count else 0


def _link(accession: str) -> Cell:
    return tags.a(accession, href=f"/trace?accession={quote(accession, safe='')}") if accession else ""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
