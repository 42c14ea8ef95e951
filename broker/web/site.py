"""What is served on the web port, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import generate_latest
from twisted.internet.interfaces import IReactorTime

from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.web.api import Api
from broker.web.configuration import Configuration, ConfigurationApi
from broker.web.console import Console
from broker.web.http import Answer, Asked, Page, Pages, QuietSite
from broker.web.reconciliation import Reconciliation, ReconciliationApi
from broker.web.status import Status

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

Refresh = Callable[[], Awaitable[object]]


def build_site(
    status: Status,
    metrics: Metrics,
    refresh: Refresh,
    log: Log,
    reactor: IReactorTime,
    *,
    hosts: frozenset[str] = frozenset(),
    configuration: Configuration | None = None,
    reconciliation: Reconciliation | None = None,
) -> QuietSite:
    """Return the site.

    refresh: brings the gauges up to date before they are shown. hosts: the Host names served (`LOOPBACK` when bound there); empty for any.
    configuration: what runs, for the pages and actions about it. reconciliation: the list of what named no known exam, likewise.
    """
    shown, done = pages(status, metrics, refresh, log), actions(status)
    if configuration is not None:
        api = ConfigurationApi(configuration)
        shown |= {
            "/api/configuration": api.status,
            "/api/configuration/plan": api.plan,
            "/api/configuration/versions": api.versions,
        }
        done |= {"/api/configuration/apply": api.apply, "/api/configuration/rollback/": api.rollback}
    if reconciliation is not None:
        entries = ReconciliationApi(reconciliation)
        shown |= {"/api/unmatched": entries.entries, "/api/unmatched/": entries.entry}
        done |= {
            "/api/unmatched/link/": entries.link,
            "/api/unmatched/correct/": entries.correct,
            "/api/unmatched/release/": entries.release,
            "/api/unmatched/undo/": entries.undo,
            "/api/images/move/": entries.move,
            "/api/images/undo/": entries.undo_move,
        }
    return QuietSite(Pages(shown, log, hosts, done), reactor)


def pages(status: Status, metrics: Metrics, refresh: Refresh, log: Log) -> dict[str, Page]:
    """Return every page there is, by its path."""
    api, console = Api(status), Console(status)
    return {
        "/": console.overview,
        "/trace": console.trace,
        "/messages": console.messages,
        "/style.css": console.style,
        "/api/status": api.status,
        "/api/trace/": api.trace,
        "/api/messages": api.messages,
        "/api/deliveries/": api.deliveries,
        "/metrics": _Exposition(metrics, refresh, log),
        "/healthz": _alive,
        "/readyz": api.ready,
    }


def actions(status: Status) -> dict[str, Page]:
    """Return everything that may be done, by its path."""
    api = Api(status)
    return {"/api/messages/again/": api.again, "/api/deliveries/resend/": api.resend}


async def _alive(asked: Asked) -> Answer:
    """Answer 200 while the reactor runs."""
    return Answer(b"alive\n")


class _Exposition:
    """The metrics in Prometheus' text format; a store that does not answer shows as `broker_store_up 0`."""

    def __init__(self, metrics: Metrics, refresh: Refresh, log: Log) -> None:
        self._metrics, self._refresh, self._log = metrics, refresh, log

    async def __call__(self, asked: Asked) -> Answer:
        try:
            await self._refresh()
        except Exception as error:
            # the counters are wanted most when the store is gone
            self._log.failure("gauges not refreshed", error)
            self._metrics.store_up.set(0)
        else:
            self._metrics.store_up.set(1)
        return Answer(generate_latest(self._metrics.registry), EXPOSITION)
