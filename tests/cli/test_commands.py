"""The `broker` command as a person types it: what it prints and how it ends. What needs a running broker is in tests/scenarios."""

from __future__ import annotations

import shutil
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner, Result

from broker.cli import access, main
from tests.engine.house import ROOT
from tests.peers import free_ports


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the shipped configuration that may be spoilt."""
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "channels.yaml", tmp_path)
    return tmp_path


def run(site: Path, *arguments: str) -> Result:
    web, hl7 = map(str, free_ports(2))
    environment = {"BROKER_DATA": str(site / "data"), "WEB_PORT": web, "HL7_PORT": hl7}
    return CliRunner().invoke(main, ["--config", str(site / "channels.yaml"), *arguments], env=environment)


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_broken_configuration_does_not_start(site: Path) -> None:
    spoil(site / "channels.yaml", "from: hospital", "from: hospitl")
    result = run(site, "run")
    assert result.exit_code == 2
    assert "nothing was started or changed" in result.output
    assert not (site / "data").exists()


def test_the_cases_pass_and_a_wrong_one_fails_with_its_line(site: Path) -> None:
    result = run(site, "test")
    assert result.exit_code == 0, result.output
    assert " passed, 0 failed" in result.output
    spoil(site / "routes" / "tests" / "orders.yaml", "answer: AE", "answer: AA")
    result = run(site, "test", "orders")
    assert result.exit_code == 1
    assert "FAIL orders: " in result.output
    assert "answer: expected AA, was AE" in result.output
    assert "orders.yaml:" in result.output
    assert "registration:" not in result.output


def test_a_channel_that_is_not_there_cannot_be_tested(site: Path) -> None:
    result = run(site, "test", "nosuch")
    assert result.exit_code == 2
    assert "there is no channel nosuch" in result.output


def test_words_of_the_configuration_are_explained(site: Path) -> None:
    assert "Order code" in run(site, "explain", "ris").output or "RIS" in run(site, "explain", "ris").output
    assert "port" in run(site, "explain", "mllp").output
    result = run(site, "explain", "colerce")
    assert result.exit_code == 1
    assert "did you mean coerce" in result.output
    assert "coerce" in run(site, "explain").output.splitlines()


def test_the_reference_pages_in_the_repository_are_current(site: Path) -> None:
    result = run(site, "schema", "--check", str(ROOT / "docs" / "reference"))
    assert result.exit_code == 0, result.output
    result = run(site, "schema", "--check", str(site / "nowhere"))
    assert result.exit_code == 1
    assert "run `broker schema`" in result.output


def test_without_a_broker_the_commands_say_what_to_do(site: Path) -> None:
    for command in (("messages",), ("trace", "A00000001")):
        result = run(site, *command)
        assert result.exit_code == 1
        assert "see `broker run`" in result.output
    assert "is the broker running?" in run(site, "send", str(site / "samples" / "orm_ct.hl7")).output
    assert "no broker answers" in run(site, "messages", "again", "1").output


def test_a_span_of_time_must_have_a_unit(site: Path) -> None:
    result = run(site, "messages", "--since", "yesterday")
    assert result.exit_code == 2
    assert "write it like 15m or 24h" in result.output


class Answering:
    """Stands in for what listens on the web port."""

    def __init__(self, body: bytes, code: int = 200) -> None:
        self.body, self.code, self.asked = body, code, ""

    def open(self, request: Any, timeout: float) -> BytesIO:
        self.asked = request if isinstance(request, str) else request.full_url
        if self.code != 200:
            raise HTTPError(self.asked, self.code, "no", Message(), BytesIO(self.body))
        return BytesIO(self.body)


@pytest.mark.parametrize(
    ("answering", "said"),
    [
        (Answering(b'{"error": "message 5 is not parked but routed"}', 409), "message 5 is not parked but routed"),
        (Answering(b"the page failed; the log says where\n", 500), "the page failed"),
        (Answering(b"", 502), "502 no"),
        (Answering(b"<html>a printer</html>"), "is no broker"),
    ],
)
def test_what_the_web_port_answers_instead_is_told_without_a_traceback(
    site: Path, monkeypatch: pytest.MonkeyPatch, answering: Answering, said: str
) -> None:
    monkeypatch.setattr(access, "_DIRECT", answering)
    for arguments in (("messages", "again", "5"), ("trace", "ACC1")):
        result = run(site, *arguments)
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output


def test_an_accession_number_of_any_characters_can_be_asked_for(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering(b'{"accession": "A B/C?x", "entries": []}')
    monkeypatch.setattr(access, "_DIRECT", answering)
    assert run(site, "trace", "A B/C?x", "--json").exit_code == 0
    assert "/api/trace/A%20B%2FC%3Fx?" in answering.asked


def test_a_site_bound_to_an_ipv6_address_is_asked_there(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering(b'{"messages": []}')
    monkeypatch.setattr(access, "_DIRECT", answering)
    spoil(site / "channels.yaml", "  bind: ${BIND:-127.0.0.1}\n\nlisteners", '  bind: "::1"\n\nlisteners')
    assert run(site, "messages", "--json").exit_code == 0
    assert answering.asked.startswith("http://[::1]:")
