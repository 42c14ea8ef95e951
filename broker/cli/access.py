"""How a command reaches the broker's figures: from the running broker, or from its store when none runs."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click

from broker.config.files import read_text
from broker.config.outline import outline
from broker.config.sources import CHANNELS, Source
from broker.connectors import registry
from broker.errors import ConfigError, Problem
from broker.store.database import Transaction, look

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment leads away from this machine


SILENT = object()  # nobody answers
PATIENCE = 120.0  # seconds: a big configuration takes its time to be checked
MOST = 1024 * 1024  # bytes of a refusal


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker is reached, and where its store is when it does not run."""

    bind: str
    port: str
    data: Path
    store: str

    @property
    def site(self) -> str:
        """Return its web address."""
        return f"http://{f'[{self.bind}]' if ':' in self.bind else self.bind}:{self.port}"

    @property
    def file(self) -> Path | None:
        """Return the file of an embedded store, None of a PostgreSQL."""
        return self.data / "broker.db" if self.store == "sqlite" else None


def ask(config_file: Path, path: str, query: dict[str, str], otherwise: Callable[[Transaction], object] | None = None) -> Any:
    """Return the JSON of the running broker, or what `otherwise` reads from its store; raises ClickException, BrokerError."""
    place = find(config_file)
    answer = _answer(place, f"{place.site}{path}?{urllib.parse.urlencode(query)}")
    if answer is not SILENT:
        return answer
    if otherwise is None:
        raise _silent(place)
    return _from_store(place, otherwise)


def answered(config_file: Path, path: str) -> Any:
    """Return the JSON of the running broker, SILENT when none runs; raises ClickException, ConfigError."""
    place = find(config_file)
    return _answer(place, f"{place.site}{path}")


def act(config_file: Path, path: str, query: Mapping[str, str] | None = None) -> Any:
    """Let the running broker do something and return its JSON.

    Raises ClickException when it does not run or refuses, ConfigError when it names problems.
    """
    place = find(config_file)
    url = f"{place.site}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    answer = _answer(place, urllib.request.Request(url, method="POST", headers={"X-Broker-Action": "yes"}))
    if answer is SILENT:
        raise _silent(place)
    return answer


def find(config_file: Path) -> Place:
    """Return where the broker of a channels file is, be the rest of the file in order or not; raises ConfigError when it cannot be read."""
    text = read_text(config_file, str(config_file))
    if isinstance(text, Problem):
        raise ConfigError([text])
    settings = outline([Source(CHANNELS, text)], os.environ, registry).settings
    return Place(str(settings["web"]["bind"]), str(settings["web"]["port"]), Path(str(settings["data"])), str(settings["store"]))


def _answer(place: Place, request: str | urllib.request.Request) -> Any:
    try:
        with _DIRECT.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and isinstance(request, str):
            return None
        raise _refused(error) from error
    except (ValueError, HTTPException) as error:
        raise click.ClickException(f"what answers on port {place.port} is no broker") from error
    except OSError:
        return SILENT


def _refused(error: urllib.error.HTTPError) -> Exception:
    """Return why the broker refused: the problems or the error of its JSON, or its line of text."""
    text = error.read(MOST).decode("utf-8", "replace").strip()
    try:
        told = json.loads(text)
        if problems := told.get("problems"):
            return ConfigError([Problem(**problem) for problem in problems])
        return click.ClickException(str(told["error"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return click.ClickException(text[:1000] or f"{error.code} {error.reason}")


def _silent(place: Place) -> click.ClickException:
    return click.ClickException(f"no broker answers on port {place.port} (see `broker run`)")


def _from_store(place: Place, fn: Callable[[Transaction], object]) -> Any:
    if place.file is not None and not place.file.exists():
        raise click.ClickException(f"no broker answers on port {place.port}, and there is no store in {place.data} (see `broker run`)")
    value = look(place.file or place.store, fn)
    return [asdict(one) for one in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
