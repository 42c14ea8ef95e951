"""The thin shell around twisted.web: methods, headers, limits, and what happens when an answer fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from broker.obs.log import Log

BODY_LIMIT = 4096  # bytes; nothing here reads a body
IDLE_SECONDS = 60

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "broker",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answers."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    code: int = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page is asked: the rest of the path behind the page's own, and the query's last value of each name."""

    rest: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """Return a value of the query without blanks around it, "" when it is not there."""
        return self.query.get(name, "").strip()


class BadRequest(Exception):
    """The query cannot be understood; the text says why and is shown to the asker."""


Page = Callable[[Asked], Awaitable[Answer]]

NOT_FOUND = Answer(b"there is no such page\n", code=404)
FAILED = Answer(b"the page failed; the log says where\n", code=500)
ONLY_READING = Answer(b"only GET and HEAD are answered here\n", code=405)
NOT_ASKED_FOR = Answer(b"an action needs the header X-Broker-Action\n", code=403)
WRONG_HOST = Answer(b"this host name is not served here\n", code=421)


class Pages(Resource):
    """The one resource: it finds the page by path and writes its answer.

    pages: path -> page; a path that ends in "/" and is longer than that takes the rest of the path as its argument.
    hosts: the Host names served, without ports; empty for any. On loopback it keeps foreign web sites from reading the
    console through a name of theirs that resolves to this machine.
    actions: as pages, but for POST. They want a header that a web page of another origin cannot send without being asked first.
    """

    isLeaf = True

    def __init__(
        self, pages: Mapping[str, Page], log: Log, hosts: frozenset[str] = frozenset(), actions: Mapping[str, Page] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pages, self._actions, self._log, self._hosts = dict(pages), dict(actions or {}), log, hosts

    def render(self, request: HttpRequest) -> int:
        """Begin the answer; it is finished when the page's awaitable has fired."""
        answer = Deferred.fromCoroutine(self._answer(request))
        gone = request.notifyFinish()
        # what was only asked for is not worth going on with; what was begun is brought to its end
        gone.addErrback(lambda _: None if request.method == b"POST" else answer.cancel())
        answer.addCallbacks(lambda a: _write(request, a), self._failed, callbackArgs=(), errbackArgs=(request,))
        answer.addErrback(lambda failure: self._log.failure("web answer failed", failure))
        return NOT_DONE_YET

    async def _answer(self, request: HttpRequest) -> Answer:
        path = request.path.decode("ascii", "replace")
        acting = request.method == b"POST" and self._find(self._actions, path)[0] is not None
        if request.method not in (b"GET", b"HEAD") and not acting:
            return ONLY_READING
        if self._hosts and _host(request) not in self._hosts:
            return WRONG_HOST
        if acting and not request.getHeader("X-Broker-Action"):
            return NOT_ASKED_FOR
        page, rest = self._find(self._actions if acting else self._pages, path)
        if page is None:
            return NOT_FOUND
        try:
            return await page(Asked(_unquoted(rest), _query(request)))
        except BadRequest as error:
            return Answer(f"{error}\n".encode(), code=400)

    def _find(self, pages: Mapping[str, Page], path: str) -> tuple[Page | None, str]:
        if path in pages and (path == "/" or not path.endswith("/")):
            return pages[path], ""
        head, slash, rest = path.rpartition("/")
        return (pages.get(head + slash) if head and rest else None), rest

    def _failed(self, failure: Failure, request: HttpRequest) -> None:
        if isinstance(failure.value, CancelledError):
            return  # the asker has gone
        self._log.failure("web page failed", failure)
        _write(request, FAILED)


def _write(request: Any, answer: Answer) -> None:  # Any: twisted.web leaves most of a request without types
    if request.channel is None:
        return  # the asker has gone
    request.setResponseCode(answer.code)
    for name, value in {**SECURITY_HEADERS, "Content-Type": answer.type, "Content-Length": str(len(answer.body))}.items():
        request.setHeader(name, value)
    if answer.code == 405:
        request.setHeader("Allow", "GET, HEAD")
    request.write(b"" if request.method == b"HEAD" else answer.body)
    request.finish()


def _host(request: Any) -> str:
    return _text(request.getRequestHostname()).lower()


def _query(request: HttpRequest) -> dict[str, str]:
    return {_text(name): _text(values[-1]) for name, values in (request.args or {}).items()}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _unquoted(rest: str) -> str:
    return unquote(rest, errors="replace")


class BoundedRequest(Request):
    """A request whose body may not grow: nothing here reads one."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, or close the connection when there is too much of it."""
        if self.content is not None and self.content.tell() + len(data) > BODY_LIMIT:
            self.loseConnection()  # type: ignore[no-untyped-call]
            return
        super().handleContentChunk(data)  # type: ignore[no-untyped-call]


class QuietSite(Site):
    """A site that writes no access log of its own and shows no traceback."""

    displayTracebacks = False

    def __init__(self, resource: Resource, reactor: IReactorTime) -> None:
        super().__init__(resource, requestFactory=BoundedRequest, timeout=IDLE_SECONDS, reactor=reactor)  # type: ignore[no-untyped-call]

    def log(self, request: HttpRequest) -> None:
        """Write nothing: a query may name an accession, and the counters tell the rest."""
