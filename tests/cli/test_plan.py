"""`broker plan`, `versions`, `apply`, `rollback` and `replay` where no broker runs, and what they answer to one that refuses."""

from __future__ import annotations

import json
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from broker.cli import access
from broker.config.load import load
from broker.config.versions import Version, Versions
from broker.connectors import registry
from broker.store.database import _open_engine
from tests.cli.test_commands import run, site, spoil  # noqa: F401


class Answering:
    """Stands in for what listens on the web port, by path; where it has nothing nobody listens."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[str]()

    def open(self, request: Any, timeout: float) -> BytesIO:
        url = request if isinstance(request, str) else request.full_url
        path = url.partition("/api/")[2].partition("?")[0].rstrip("/").replace("/", "_")
        self.asked.append(url)
        if path not in self.answers:
            raise URLError("refused")
        code, body = self.answers[path] if isinstance(self.answers[path], tuple) else (200, self.answers[path])
        if code != 200:
            raise HTTPError(url, code, "no", Message(), BytesIO(json.dumps(body).encode()))
        return BytesIO(json.dumps(body).encode())


NOTHING = {"files": {}, "items": [], "effects": [], "warnings": [], "refusals": [], "candidate": "abc", "running": "abc"}
CHANGE = {**NOTHING, "files": {"channels.yaml": "changed"}}
REFUSAL = {"file": "channels.yaml", "line": 0, "where": "destinations.ehr", "what": "still holds 1 waiting", "instead": "keep it"}


def kept(folder: Path) -> Version:
    """Note the configuration as one that has run, over an empty store."""
    config = load(folder / "channels.yaml", {"BROKER_DATA": str(folder / "data")}, registry)
    versions = Versions(folder / "data")
    staged = versions.stage(config, Version(1, config.digest, 1000.0, "ann", "first"))
    versions.commit(staged)
    _open_engine(folder / "data" / "broker.db", lambda *_: None, False).close()
    return staged.version


def test_without_a_broker_the_plan_is_against_what_ran_last(site: Path) -> None:  # noqa: F811
    result = run(site, "plan")
    assert (result.exit_code, "nothing to compare with" in result.output) == (1, True)
    kept(site)
    result = run(site, "plan")
    assert (result.exit_code, result.output) == (0, "Nothing would change.\n")
    (site / "mappings" / "sex.csv").write_text((site / "mappings" / "sex.csv").read_text() + "intersex,O\n")
    spoil(site / "channels.yaml", "unmatched: reject", "unmatched: park")
    result = run(site, "plan")
    assert result.exit_code == 2
    assert "~ listener hospital\n    unmatched: reject -> park\n" in result.output
    assert "~ table sex\n    row intersex: {" in result.output
    assert "files: ~channels.yaml, ~mappings/sex.csv" in result.output
    assert "No open connection of a listener is touched." in result.output
    assert [item["name"] for item in json.loads(run(site, "plan", "--json").output)["items"]] == ["hospital", "sex"]


def test_a_comment_is_a_change_of_the_files_only(site: Path) -> None:  # noqa: F811
    kept(site)
    spoil(site / "channels.yaml", "version: 1\n", "version: 1 # as ever\n")
    result = run(site, "plan")
    assert result.exit_code == 2
    assert "Nothing that runs would change" in result.output


def test_another_folder_is_compared_with_what_ran(site: Path, tmp_path: Path) -> None:  # noqa: F811
    kept(site)
    spoil(site / "routes" / "orders.yaml", "lane: PID-3.1", "lane: PID-3.2")
    result = run(site, "plan", "--config", str(site))
    assert result.exit_code == 2
    assert "~ channel orders\n    lane: PID-3.1 -> PID-3.2\n" in result.output


def test_problems_are_a_failure_and_no_change(site: Path) -> None:  # noqa: F811
    kept(site)
    spoil(site / "channels.yaml", "from: hospital", "from: hospitl")
    result = run(site, "plan")
    assert result.exit_code == 1
    assert "there is no listener hospitl (did you mean hospital?)" in result.output
    assert "nothing was changed" in result.output
    assert json.loads(run(site, "plan", "--json").output)["problems"][0]["line"] > 0


def test_versions_are_listed_without_a_broker(site: Path) -> None:  # noqa: F811
    version = kept(site)
    output = run(site, "versions").output
    assert version.digest in output
    assert "ann" in output
    assert [one["number"] for one in json.loads(run(site, "versions", "--json").output)] == [1]


def test_without_a_broker_nothing_can_be_applied_or_taken_up_again(site: Path) -> None:  # noqa: F811
    assert "`broker run` starts on what is on disk" in run(site, "apply", "--yes").output
    assert "no broker answers" in run(site, "rollback", "--yes").output


def test_nobody_is_asked_where_nobody_is(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(access, "_DIRECT", Answering(configuration_plan=CHANGE))
    assert "say --yes" in run(site, "apply").output
    assert "say --yes" in run(site, "rollback").output


def test_what_was_planned_is_applied_in_the_users_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    version = {"number": 4, "of": None}
    answering = Answering(configuration_plan=CHANGE, configuration_apply={"plan": CHANGE, "version": version})
    monkeypatch.setattr(access, "_DIRECT", answering)
    result = run(site, "apply", "--yes", "--comment", "why not")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "Version 4 runs.")
    assert "comment=why+not&expect=abc" in answering.asked[-1]
    assert "by=" in answering.asked[-1]
    monkeypatch.setattr(access, "_DIRECT", Answering(configuration_plan=NOTHING))
    assert run(site, "apply", "--yes").output == "Nothing would change.\n"


def test_a_refusal_is_told_and_nothing_is_asked_for(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    answering = Answering(configuration={"version": 1}, configuration_plan={**CHANGE, "refusals": [REFUSAL]})
    monkeypatch.setattr(access, "_DIRECT", answering)
    result = run(site, "apply", "--yes")
    assert result.exit_code == 2
    assert "channels.yaml: destinations.ehr: still holds 1 waiting (keep it)" in result.output
    assert not any("apply" in url for url in answering.asked)
    assert run(site, "plan").exit_code == 1


def test_problems_that_the_broker_finds_are_told_like_ones_own(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    answering = Answering(configuration_plan=CHANGE, configuration_apply=(422, {"error": "no", "problems": [REFUSAL]}))
    monkeypatch.setattr(access, "_DIRECT", answering)
    result = run(site, "apply", "--yes")
    assert result.exit_code == 2
    assert "destinations.ehr: still holds 1 waiting" in result.output


def test_a_broker_is_found_by_files_that_are_not_in_order(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    done = {"plan": CHANGE, "version": {"number": 5, "of": 3}}
    answering = Answering(configuration_rollback_previous=done, configuration={"differing": ["channels.yaml"]})
    monkeypatch.setattr(access, "_DIRECT", answering)
    spoil(site / "channels.yaml", "from: hospital", "from: hospitl")
    result = run(site, "rollback", "--yes")
    assert result.exit_code == 0, result.output
    assert "Version 5 runs, which is version 3 again." in result.output
    assert "On disk are other files: channels.yaml." in result.output


def test_replay_needs_a_store_a_version_and_a_time(site: Path) -> None:  # noqa: F811
    assert "nothing has been received yet" in run(site, "replay", "--since", "1h").output
    result = run(site, "replay", "--since", "yesterday")
    assert (result.exit_code, "write it like 2h or 2026-03-02T08:00" in result.output) == (2, True)
    kept(site)
    result = run(site, "replay", "--since", "2026-03-02T08:00", "--until", "1h")
    assert result.exit_code == 0, result.output
    assert "0 messages compared, 0 came out differently" in result.output
    assert json.loads(run(site, "replay", "--since", "1h", "--json").output)["differences"] == []
    spoil(site / "channels.yaml", "from: hospital", "from: hospitl")
    result = run(site, "replay", "--since", "1h")
    assert (result.exit_code, "there is no listener hospitl" in result.output) == (1, True)


@pytest.mark.parametrize("spoiled", ["port: 8081", "port: ["])
def test_a_running_broker_is_found_whatever_stands_on_disk_by_now(site: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str) -> None:  # noqa: F811
    spoil(site / "channels.yaml", "port: ${WEB_PORT:-8080}", "port: 8082")
    kept(site)
    spoil(site / "channels.yaml", "port: 8082", spoiled)
    runs = Answering(configuration={"version": 1}, configuration_plan=NOTHING)
    monkeypatch.setattr(access, "_DIRECT", runs)
    assert run(site, "plan").output == "Nothing would change.\n"
    assert {url.partition("/api")[0] for url in runs.asked} == {"http://127.0.0.1:8082"}


def test_who_does_not_answer_where_it_was_is_looked_for_where_the_file_says(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    spoil(site / "channels.yaml", "port: ${WEB_PORT:-8080}", "port: 8082")
    kept(site)
    spoil(site / "channels.yaml", "port: 8082", "port: 8081")
    nobody = Answering()
    monkeypatch.setattr(access, "_DIRECT", nobody)
    assert "no broker answers on port 8082 or 8081" in run(site, "rollback", "--yes").output
    assert [url.partition("/api")[0] for url in nobody.asked] == ["http://127.0.0.1:8082", "http://127.0.0.1:8081"]
