"""The pages that tell which configuration runs, and the actions that bring in another one."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, Protocol

from broker.config.plan import Plan
from broker.config.versions import Version
from broker.errors import BrokerError, ConfigError
from broker.obs.status import ConfigurationStatus
from broker.web.http import Answer, Asked, BadRequest

JSON = "application/json; charset=utf-8"
MOST = 200  # characters of a name or comment

Done = tuple[Plan, Version]


class Configuration(Protocol):
    """What these pages ask of the engine; everything but `status` may raise ConfigError or BrokerError."""

    def status(self) -> Awaitable[ConfigurationStatus]:
        """Return what runs, and which files are other on disk."""

    def plan(self) -> Awaitable[Plan]:
        """Return what `apply` would change."""

    def versions(self) -> Awaitable[list[Version]]:
        """Return the versions that are kept, oldest first."""

    def apply(self, by: str, comment: str = "", expect: str = "") -> Awaitable[Done]:
        """Run what is on disk, if its digest is the expected one."""

    def rollback(self, number: int | None, by: str, comment: str = "") -> Awaitable[Done]:
        """Run an earlier version."""


class ConfigurationApi:
    """Answers in JSON: 422 with every problem when it may not be, 409 when it could not be done."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def status(self, asked: Asked) -> Answer:
        """Answer with `ConfigurationStatus`."""
        return _answer(asdict(await self._configuration.status()))

    async def versions(self, asked: Asked) -> Answer:
        """Answer with the versions that are kept."""
        return _answer({"versions": [asdict(version) for version in await self._configuration.versions()]})

    async def plan(self, asked: Asked) -> Answer:
        """Answer with what `apply` would change."""

        async def planned() -> Any:
            return asdict(await self._configuration.plan())

        return await _tried(planned())

    async def apply(self, asked: Asked) -> Answer:
        """Apply what is on disk, and answer with what was changed and the version that runs."""
        by, comment = _said(asked)
        return await _tried(_shown(self._configuration.apply(by, comment, asked.get("expect"))))

    async def rollback(self, asked: Asked) -> Answer:
        """Take up the version of the path again, or with `previous` the one before."""
        by, comment = _said(asked)
        if asked.rest != "previous" and not (asked.rest.isascii() and asked.rest.isdigit() and len(asked.rest) < 10):
            raise BadRequest("the number of a version is needed here, or previous")
        number = None if asked.rest == "previous" else int(asked.rest)
        return await _tried(_shown(self._configuration.rollback(number, by, comment)))


def _said(asked: Asked) -> tuple[str, str]:
    return asked.get("by")[:MOST] or "somebody", asked.get("comment")[:MOST]


async def _shown(doing: Awaitable[Done]) -> Any:
    plan, version = await doing
    return {"plan": asdict(plan), "version": asdict(version)}


async def _tried(doing: Awaitable[Any]) -> Answer:
    try:
        return _answer(await doing)
    except ConfigError as error:
        return _answer({"error": "the configuration is not in order", "problems": [asdict(problem) for problem in error.problems]}, 422)
    except BrokerError as error:
        return _answer({"error": str(error)}, 409)


def _answer(value: Any, code: int = 200) -> Answer:
    return Answer(json.dumps(value, default=str).encode() + b"\n", JSON, code)
