"""What the broker says of itself, asked over HTTP as a program would."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool, readBody

POLL_SECONDS = 0.1


class Figures:
    """The broker's JSON interface."""

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._agent = Agent(reactor, connectTimeout=10, pool=self._pool)
        self._base = f"http://{host}:{port}"

    async def status(self) -> dict[str, Any]:
        """Return /api/status."""
        return await self._get("/api/status")

    async def trace(self, accession: str) -> dict[str, Any]:
        """Return /api/trace of an accession."""
        return await self._get(f"/api/trace/{quote(accession, safe='')}")

    async def quiet(self, patience: float) -> dict[str, Any]:
        """Return the status once no delivery waits, or as it is when nothing has moved for `patience` seconds."""
        still_since, before = self._reactor.seconds(), -1
        while True:
            status = await self.status()
            waiting = sum(item["waiting"] for item in status["destinations"])
            settled = sum(item["delivered"] for item in status["destinations"])
            now = self._reactor.seconds()
            if settled != before:
                still_since, before = now, settled
            if not waiting or now - still_since > patience:
                return status
            await deferLater(self._reactor, POLL_SECONDS, lambda: None)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()

    async def _get(self, path: str) -> dict[str, Any]:
        response = await self._agent.request(b"GET", (self._base + path).encode())
        body = await readBody(response)
        found: dict[str, Any] = json.loads(body)
        return found
