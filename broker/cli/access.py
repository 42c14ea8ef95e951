"""How a command reaches the broker's figures: from the running broker, or from its store when none runs."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.store.database import Transaction, look


def ask(config_file: Path, path: str, query: dict[str, str], otherwise: Callable[[Transaction], object]) -> Any:
    """Return the JSON of the running broker, or what `otherwise` reads from its store; raises ClickException, BrokerError."""
    config = load(config_file, os.environ, registry)
    url = f"http://{config.web.bind}:{config.web.port}{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise click.ClickException(f"{url}: {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError):
        return _from_store(config, otherwise)


def act(config_file: Path, path: str) -> Any:
    """Let the running broker do something and return its JSON; raises ClickException when it does not run or refuses."""
    config = load(config_file, os.environ, registry)
    url = f"http://{config.web.bind}:{config.web.port}{path}"
    request = urllib.request.Request(url, method="POST", headers={"X-Broker-Action": "yes"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise click.ClickException(str(json.load(error).get("error", error.reason))) from error
    except OSError as error:
        raise click.ClickException(f"no broker answers on port {config.web.port} (see `broker run`)") from error


def _from_store(config: Config, fn: Callable[[Transaction], object]) -> Any:
    where = config.data / "broker.db" if config.store == "sqlite" else config.store
    if isinstance(where, Path) and not where.exists():
        raise click.ClickException(
            f"no broker answers on port {config.web.port}, and there is no store in {config.data} (see `broker run`)"
        )
    value = look(where, fn)
    return [asdict(one) for one in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
