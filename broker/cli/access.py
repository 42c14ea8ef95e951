"""How a command reaches the broker's figures: from the running broker, or from its store when none runs."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.config.files import read_text
from broker.config.outline import outline
from broker.config.sources import CHANNELS, Source
from broker.config.versions import Versions
from broker.connectors import registry
from broker.errors import BrokerError, ConfigError, Problem
from broker.store.database import Transaction, look

T = TypeVar("T")

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment leads away from this machine


SILENT = object()  # nobody answers
PATIENCE = 120.0  # seconds: a big configuration takes its time to be checked
MOST = 1024 * 1024  # bytes of a refusal


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker is reached, and where its store is when it does not run."""

    sites: tuple[str, ...]  # web addresses: that of what was applied last, and the one on disk, where that is another
    data: Path
    store: str

    @property
    def ports(self) -> str:
        """Return their ports, for a person."""
        return " or ".join(site.rpartition(":")[2] for site in self.sites)

    @property
    def file(self) -> Path | None:
        """Return the file of an embedded store, None of a PostgreSQL."""
        return self.data / "broker.db" if self.store == "sqlite" else None


def ask(config_file: Path, path: str, query: dict[str, str], otherwise: Callable[[Transaction], object] | None = None) -> Any:
    """Return the JSON of the running broker, or what `otherwise` reads from its store; raises ClickException, BrokerError."""
    place = find(config_file)
    answer = _answer(place, f"{path}?{urllib.parse.urlencode(query)}")
    if answer is not SILENT:
        return answer
    if otherwise is None:
        raise _silent(place)
    return _from_store(place, otherwise)


def answered(config_file: Path, path: str) -> Any:
    """Return the JSON of the running broker, SILENT when none runs; raises ClickException, ConfigError."""
    return _answer(find(config_file), path)


def act(config_file: Path, path: str, query: Mapping[str, str] | None = None) -> Any:
    """Let the running broker do something and return its JSON.

    Raises ClickException when it does not run or refuses, ConfigError when it names problems.
    """
    place = find(config_file)
    answer = _answer(place, path + (f"?{urllib.parse.urlencode(query)}" if query else ""), act=True)
    if answer is SILENT:
        raise _silent(place)
    return answer


def find(config_file: Path) -> Place:
    """Return where the broker of a channels file is, be the rest of the file in order or not; raises ConfigError when it cannot be read.

    What is on disk may be half edited, or wrong, or give `web:` another port; the broker still listens where what it runs says.
    """
    text = read_text(config_file, str(config_file))
    if isinstance(text, Problem):
        raise ConfigError([text])
    sources = [Source(CHANNELS, text)]
    settings = outline(sources, os.environ, registry).settings
    data = Path(str(settings["data"]))
    sites = dict.fromkeys(map(_site, filter(None, (_applied(data), sources))))
    return Place(tuple(sites), data, str(settings["store"]))


def _applied(data: Path) -> Sequence[Source]:
    """Return the files that were applied last; () when none were, or they cannot be read."""
    kept = Versions(data)
    try:
        latest = kept.latest()
        return kept.sources(latest) if latest is not None else ()
    except (BrokerError, OSError):
        return ()


def _site(sources: Sequence[Source]) -> str:
    """Return the web address that files configure."""
    web = outline(sources, os.environ, registry).settings["web"]
    bind, port = str(web["bind"]), web["port"]
    return f"http://{f'[{bind}]' if ':' in bind else bind}:{port}"


def _answer(place: Place, path: str, *, act: bool = False) -> Any:
    """Return what the broker answers, SILENT when none does at any of its addresses."""
    for site in place.sites:
        url = f"{site}{path}"
        request = urllib.request.Request(url, method="POST", headers={"X-Broker-Action": "yes"}) if act else url
        if (answer := _open(request)) is not SILENT:
            return answer
    return SILENT


def _open(request: str | urllib.request.Request) -> Any:
    try:
        with _DIRECT.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and isinstance(request, str):
            return None
        raise _refused(error) from error
    except (ValueError, HTTPException) as error:
        url = request if isinstance(request, str) else request.full_url
        raise click.ClickException(f"what answers on port {urllib.parse.urlsplit(url).port} is no broker") from error
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
    return click.ClickException(f"no broker answers on port {place.ports} (see `broker run`)")


def read(config_file: Path, fn: Callable[[Transaction], T]) -> T:
    """Return what a function reads from the store itself; raises ClickException, BrokerError."""
    place = find(config_file)
    if place.file is not None and not place.file.exists():
        raise click.ClickException(f"there is no store in {place.data} (see `broker run`)")
    return look(place.file or place.store, fn)


def _from_store(place: Place, fn: Callable[[Transaction], object]) -> Any:
    if place.file is not None and not place.file.exists():
        raise click.ClickException(f"no broker answers on port {place.ports}, and there is no store in {place.data} (see `broker run`)")
    value = look(place.file or place.store, fn)
    return [asdict(one) for one in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
