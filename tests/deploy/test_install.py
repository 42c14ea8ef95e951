"""Dockerfile, compose file and systemd unit: what they copy, mount, call and set exists. No daemon is needed for that."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from broker.cli import main

TOP = Path(__file__).parents[2]
CHANNELS = TOP / "channels.yaml"
COMPOSE = yaml.safe_load((TOP / "compose.yaml").read_text())
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile as (name, rest), continued lines joined."""
    text = "\n".join(line for line in (TOP / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last_stage() -> list[tuple[str, str]]:
    instructions = dockerfile()
    start = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[start:]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for name, rest in last_stage() if name == "ENV" for pair in shlex.split(rest))


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a path out of the build: of the lines that match it or a parent, the last one decides."""
    lines = [line for line in (TOP / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = Path(path).parts
    names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    verdict = False
    for line in lines:
        if any(fnmatch.fnmatch(name, line.removeprefix("!").removeprefix("**/")) for name in [*names, parts[-1]]):
            verdict = not line.startswith("!")
    return verdict


def assert_is_a_command(words: list[str]) -> None:
    """Let click read the arguments as it would in earnest, without running the command."""
    assert Path(words[0]).name == "broker"
    context = click.Context(main)
    rest = main.make_parser(context).parse_args(words[1:])[1]
    name, command, arguments = main.resolve_command(context, rest)
    assert name
    assert command
    command.make_context(name, arguments, parent=context)


def test_a_command_with_an_unknown_option_is_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        assert_is_a_command(["broker", "run", "--no-such-option"])


def test_what_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    sources = [word for name, rest in dockerfile() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert {"requirements.lock", "pyproject.toml", "broker", "channels.yaml", "routes", "mappings"} <= set(sources)
    for source in sources:
        assert (TOP / source).exists(), source
        assert not ignored(source), source


@pytest.mark.parametrize("secret", [".env", ".git", "data", "data/spool/1.dcm", ".venv", "secrets/key.pem", "broker/__pycache__", "tests"])
def test_nothing_else_is_sent_to_the_build(secret: str) -> None:
    assert ignored(secret)


def test_the_copied_virtual_environment_is_the_one_that_was_built() -> None:
    copied = [rest.split() for name, rest in last_stage() if name == "COPY" and "--from" in rest]
    assert copied == [["--from=build", "/opt/broker", "/opt/broker"]]
    assert ("RUN", "python -m venv /opt/broker") in dockerfile()
    assert environment()["PATH"].startswith("/opt/broker/bin:")
    bases = {rest.split()[0] for name, rest in dockerfile() if name == "FROM"}
    assert len(bases) == 1, "both stages need the same Python at the same place"


def test_the_image_installs_what_the_lock_pins_and_nothing_else() -> None:
    installs = [part.strip() for name, rest in dockerfile() if name == "RUN" for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all("--no-deps" in install for install in installs)
    assert "--require-hashes" in installs[0]
    assert "requirements.lock" in installs[0]
    assert "--no-build-isolation" in installs[1]


def test_the_image_starts_the_broker_as_another_user_with_its_data_on_a_volume() -> None:
    stage = last_stage()
    names = [name for name, _ in stage]
    assert dict(stage)["USER"] == "broker"
    assert names.index("USER") < names.index("CMD")
    assert dict(stage)["VOLUME"] == environment()["BROKER_DATA"]
    assert_is_a_command(json.loads(dict(stage)["CMD"]))


def test_the_image_exposes_the_ports_it_listens_on() -> None:
    assert dict(last_stage())["EXPOSE"].split() == [environment()[name] for name in ("HL7_PORT", "DICOM_PORT", "WEB_PORT")]


def test_the_health_check_asks_a_page_that_the_broker_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    command = json.loads(dict(last_stage())["HEALTHCHECK"].partition(" CMD ")[2])
    assert command[:2] == ["python", "-c"]
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: asked.append(url))
    monkeypatch.setenv("WEB_PORT", "8080")
    exec(command[2], {})
    assert asked == ["http://127.0.0.1:8080/healthz"]
    assert any('"/healthz"' in module.read_text() for module in (TOP / "broker/web").glob("*.py"))


def channel_variables() -> dict[str, str]:
    return dict(VARIABLE.findall(CHANNELS.read_text()))


@pytest.mark.parametrize("name", sorted({*environment(), *COMPOSE["services"]["broker"]["environment"]} - {"PATH", "PYTHONUNBUFFERED"}))
def test_every_variable_that_is_set_is_one_the_channels_file_reads(name: str) -> None:
    assert name in channel_variables()


def test_the_defaults_are_those_of_the_channels_file() -> None:
    defaults = channel_variables()
    set_by_image = {name: value for name, value in environment().items() if name.endswith("_PORT")}
    passed_on = {name: VARIABLE.fullmatch(value) for name, value in COMPOSE["services"]["broker"]["environment"].items()}
    for name, value in set_by_image.items():
        assert value == defaults[name]
    for name, reference in passed_on.items():
        assert reference, name
        assert reference[1] == name
        if not name.endswith("_HOST"):  # seen from a container, the peers are on the host
            assert reference[2] == defaults[name]


def mounts() -> list[tuple[str, str, str]]:
    return [(name, *volume.split(":")[:2]) for name, service in COMPOSE["services"].items() for volume in service.get("volumes", [])]


@pytest.mark.parametrize(("service", "source", "target"), mounts())
def test_what_a_service_mounts_exists(service: str, source: str, target: str) -> None:
    assert target.startswith("/"), service
    assert (TOP / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_the_services_of_the_compose_file_fit_each_other() -> None:
    broker = COMPOSE["services"]["broker"]
    assert (TOP / broker["build"] / "Dockerfile").exists()
    inside = [port.rpartition(":")[2] for port in broker["ports"]]
    assert inside == dict(last_stage())["EXPOSE"].split()
    scraped = yaml.safe_load((TOP / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert [target for job in scraped for one in job["static_configs"] for target in one["targets"]] == [
        f"broker:{environment()['WEB_PORT']}"
    ]
    targets = {target for service, _, target in mounts() if service == "grafana"}
    provisioned = yaml.safe_load((TOP / "deploy/grafana/provisioning/dashboards/broker.yml").read_text())["providers"]
    assert {f"{provider['options']['path']}/dashboard.json" for provider in provisioned} <= targets
    sources = yaml.safe_load((TOP / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert [source["url"] for source in sources] == ["http://prometheus:9090"]
    assert {name for service in COMPOSE["services"].values() for name in service.get("depends_on", ())} <= set(COMPOSE["services"])


def test_only_the_hospitals_side_is_published_beyond_this_machine_and_only_on_demand() -> None:
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")), name


def unit() -> Any:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(TOP / "deploy/systemd/broker.service")
    return parser


def test_the_unit_calls_commands_that_exist() -> None:
    service = unit()["Service"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"  # which tests/interop/test_apply.py sends
    commands = [value for name, value in service.items() if name.startswith("Exec") and name != "ExecReload"]
    assert commands
    for command in commands:
        assert_is_a_command(command.split())


def test_the_unit_keeps_its_data_where_it_may_write_and_names_a_file_that_exists() -> None:
    service = unit()["Service"]
    assert service["Environment"] == f"BROKER_DATA=/var/lib/{service['StateDirectory']}"
    assert (TOP / unit()["Unit"]["Documentation"].removeprefix("file:/opt/broker/")).exists()
    assert service["User"] not in {"", "root"}


def test_the_unit_does_not_start_a_broker_with_an_invalid_configuration_over_and_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "channels.yaml"
    bad.write_text("version: 1\nno_such_key: true\n")
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(bad), "run"])
    assert str(stopped.value.code) == unit()["Service"]["RestartPreventExitStatus"]
    assert "no_such_key" in capsys.readouterr().err
