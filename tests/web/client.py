"""The site over a transport in memory, asked as a browser or a command asks it."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.web.site import LOOPBACK, build_site


class Client:
    """Asks a site that has nothing but the given parts."""

    def __init__(self, **parts: Any) -> None:
        async def refresh() -> None:
            pass

        status: Any = None
        self.site = build_site(status, Metrics(), refresh, Log(io.StringIO(), strict=True), Clock(), hosts=LOOPBACK, **parts)

    def ask(self, path: str, method: str = "GET", header: str = "") -> tuple[int, Any]:
        """Return the code and the body of an answer, read when it is JSON."""
        channel, transport = self.site.buildProtocol(None), StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n{header}\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body

    def act(self, path: str) -> tuple[int, Any]:
        """Let the broker do something."""
        return self.ask(path, "POST", "X-Broker-Action: yes\r\n")
