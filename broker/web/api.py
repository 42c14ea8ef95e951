"""The JSON interface: the same figures as the console, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from broker.errors import MessageError, StoreError
from broker.obs.status import MessageFilter, Readiness
from broker.store.journal import STATES
from broker.web.http import Answer, Asked, BadRequest
from broker.web.status import Status

JSON = "application/json; charset=utf-8"
MOST = 1000  # messages in one answer

_FILTERS = tuple(f.name for f in fields(MessageFilter))


class Api:
    """The pages that answer JSON."""

    def __init__(self, status: Status) -> None:
        self._status = status

    async def status(self, asked: Asked) -> Answer:
        """Answer with `Overview` as JSON."""
        return _answer(asdict(await self._status.status()))

    async def trace(self, asked: Asked) -> Answer:
        """Answer with the `Trace` of the accession in the path, 404 when nothing is known of it."""
        trace = await self._status.trace(asked.rest)
        return _answer(asdict(trace), 200 if trace.entries else 404)

    async def messages(self, asked: Asked) -> Answer:
        """Answer with the messages that match the query, 400 when the query is no filter."""
        found = await self._status.messages(message_filter(asked.query))
        return _answer({"messages": [asdict(item) for item in found]})

    async def deliveries(self, asked: Asked) -> Answer:
        """Answer with the deliveries of the message in the path."""
        found = await self._status.deliveries(_number(asked.rest))
        return _answer({"deliveries": [asdict(item) for item in found]})

    async def again(self, asked: Asked) -> Answer:
        """Route the parked message of the path once more, and answer with what became of it."""
        return await _done(asked.rest, self._status.again, "state")

    async def resend(self, asked: Asked) -> Answer:
        """Send the delivery of the path once more, and answer with its destination."""
        return await _done(asked.rest, self._status.resend, "destination")

    async def ready(self, asked: Asked) -> Answer:
        """Answer 200 when messages can be taken, 503 naming what is missing."""
        readiness = await self._status.ready()
        return _answer({"ready": readiness.ready, "missing": missing(readiness)}, 200 if readiness.ready else 503)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("the number of a message or delivery is needed here")
    return int(text)


async def _done(number: str, act: Callable[[int], Awaitable[str]], name: str) -> Answer:
    """Answer with the result of an action on a numbered thing, 404 when there is none, 409 when it is in no state for it."""
    id = _number(number)
    try:
        return _answer({"id": id, name: await act(id)})
    except LookupError:
        return _answer({"error": f"there is no {number} that can be taken up again"}, 404)
    except MessageError as error:
        return _answer({"error": str(error)}, 409)
    except StoreError as error:
        return _answer({"error": str(error)}, 503)


def missing(readiness: Readiness) -> list[str]:
    """Return what keeps the broker from being ready, one phrase each."""
    found = [] if readiness.store else ["store is not open"]
    if readiness.draining:
        found.append("broker is stopping")
    return found + [f"listener {name} is not bound" for name, bound in readiness.listeners.items() if not bound]


def message_filter(query: Mapping[str, str]) -> MessageFilter:
    """Return the filter a query stands for; raises BadRequest naming what cannot be understood."""
    if unknown := sorted(set(query) - set(_FILTERS)):
        raise BadRequest(f"{json.dumps(unknown[0])} is no filter; there are {', '.join(_FILTERS)}")
    texts = {name: query.get(name, "").strip() for name in _FILTERS}
    if texts["state"] and texts["state"] not in STATES:
        raise BadRequest(f"there is no such state; there are {', '.join(STATES)}")
    return MessageFilter(
        listener=texts["listener"],
        kind=texts["kind"],
        state=texts["state"],
        accession=texts["accession"],
        since=_moment(texts["since"]),
        limit=_limit(texts["limit"]),
    )


def _moment(text: str) -> float | None:
    if not text:
        return None
    try:
        moment = float(text)
        if math.isfinite(moment):
            return moment
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("since is neither seconds since the epoch nor an ISO 8601 time") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _limit(text: str) -> int:
    if not text:
        return MessageFilter().limit
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST):
        raise BadRequest(f"limit is a number from 1 to {MOST}")
    return int(text[:9])


def _answer(value: Any, code: int = 200) -> Answer:
    return Answer(json.dumps(value, default=str).encode() + b"\n", JSON, code)
