"""The web port as a listener: it binds when started, and lets go when stopped."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.web.server import Site

from broker.connectors.base import not_bound


class WebPort:
    """Serves a site at one address."""

    name = "web"

    def __init__(self, bind: str, port: int, site: Site, reactor: Any) -> None:
        self._bind, self._port, self._site, self._reactor = bind, port, site, reactor
        self._listening: Any = None

    def start(self) -> Deferred[str]:
        """Bind, and fire with what to show a person: "http 127.0.0.1:8080"; fails with OSError."""
        try:
            self._listening = self._reactor.listenTCP(self._port, self._site, interface=self._bind)
        except CannotListenError as error:
            return fail(not_bound(error))
        return succeed(f"http {self._bind}:{self._listening.getHost().port}")

    def stop(self) -> Deferred[None]:
        """Accept nothing new; requests under way are answered."""
        listening, self._listening = self._listening, None
        return maybeDeferred(listening.stopListening) if listening is not None else succeed(None)
