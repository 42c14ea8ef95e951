"""The pages about the configuration: what they answer, and to whom they do something."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.plan import Detail, Effect, Item, Plan
from broker.config.versions import Version
from broker.errors import BrokerError, ConfigError, Problem
from broker.obs.status import ConfigurationStatus
from tests.web.client import Client

ITEM = Item("listeners", "x", "changed", (Detail("port", "1", "2"),))
PLAN = Plan("a", "b", {"channels.yaml": "changed"}, (ITEM,), (Effect("listeners", "x", "binds anew", 3),))
VERSION = Version(2, "b", 1000.0, "ann", "why")


class Fake:
    """A configuration that does what it is told, or fails."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failing: Exception | None = None

    async def status(self) -> ConfigurationStatus:
        return ConfigurationStatus(2, "b", 1000.0, "ann", "why", None, ("routes/orders.yaml",))

    async def plan(self) -> Plan:
        if self.failing:
            raise self.failing
        return PLAN

    async def versions(self) -> list[Version]:
        return [VERSION]

    async def apply(self, by: str, comment: str = "", expect: str = "") -> tuple[Plan, Version]:
        return self._do("apply", by, comment, expect)

    async def rollback(self, number: int | None, by: str, comment: str = "") -> tuple[Plan, Version]:
        return self._do("rollback", number, by, comment)

    def _do(self, *asked: Any) -> tuple[Plan, Version]:
        if self.failing:
            raise self.failing
        self.asked.append(asked)
        return PLAN, VERSION


class Web(Client):
    def __init__(self) -> None:
        self.configuration = Fake()
        super().__init__(configuration=self.configuration)


@pytest.fixture
def web() -> Web:
    return Web()


def test_what_runs_what_would_change_and_what_ran_is_told(web: Web) -> None:
    assert web.ask("/api/configuration")[1]["differing"] == ["routes/orders.yaml"]
    code, plan = web.ask("/api/configuration/plan")
    assert (code, plan["candidate"], plan["items"][0]["details"][0]) == (200, "b", {"path": "port", "old": "1", "new": "2"})
    assert web.ask("/api/configuration/versions")[1]["versions"][0]["number"] == 2


def test_who_asks_and_why_reaches_the_broker(web: Web) -> None:
    code, done = web.act("/api/configuration/apply?by=ann&comment=because&expect=b")
    assert (code, done["version"]["number"], done["plan"]["effects"][0]["connections"]) == (200, 2, 3)
    web.act("/api/configuration/rollback/7?by=bob")
    web.act(f"/api/configuration/rollback/previous?comment={'x' * 999}")
    assert web.configuration.asked == [
        ("apply", "ann", "because", "b"),
        ("rollback", 7, "bob", ""),
        ("rollback", None, "somebody", "x" * 200),
    ]


def test_nothing_is_done_without_the_header_or_by_reading(web: Web) -> None:
    assert web.ask("/api/configuration/apply", "POST")[0] == 403
    assert web.ask("/api/configuration/apply")[0] == 404
    assert web.ask("/api/configuration/rollback/1")[0] == 404
    assert web.act("/api/configuration/rollback/-1")[0] == 400
    assert web.act("/api/configuration/rollback/x")[0] == 400
    assert web.configuration.asked == []


def test_problems_come_with_their_places_and_failures_with_their_reason(web: Web) -> None:
    web.configuration.failing = ConfigError([Problem("channels.yaml", 3, "listeners", "wrong", "right")])
    for answer in (web.ask("/api/configuration/plan"), web.act("/api/configuration/apply")):
        assert answer[0] == 422
        assert answer[1]["problems"] == [{"file": "channels.yaml", "line": 3, "where": "listeners", "what": "wrong", "instead": "right"}]
    web.configuration.failing = BrokerError("the port is taken")
    assert web.act("/api/configuration/apply") == (409, {"error": "the port is taken"})
