"""How a command reaches the broker's figures: from the running broker, or from its store when none runs."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.store.database import Transaction, look

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment leads away from this machine


def ask(config_file: Path, path: str, query: dict[str, str], otherwise: Callable[[Transaction], object] | None = None) -> Any:
    """Return the JSON of the running broker, or what `otherwise` reads from its store; raises ClickException, BrokerError."""
    config = load(config_file, os.environ, registry)
    url = f"{_site(config)}{path}?{urllib.parse.urlencode(query)}"
    try:
        with _DIRECT.open(url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise click.ClickException(_told(error)) from error
    except (ValueError, HTTPException) as error:
        raise _stranger(config) from error
    except OSError as error:
        if otherwise is None:
            raise _silent(config) from error
        return _from_store(config, otherwise)


def act(config_file: Path, path: str) -> Any:
    """Let the running broker do something and return its JSON; raises ClickException when it does not run or refuses."""
    config = load(config_file, os.environ, registry)
    request = urllib.request.Request(f"{_site(config)}{path}", method="POST", headers={"X-Broker-Action": "yes"})
    try:
        with _DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise click.ClickException(_told(error)) from error
    except (ValueError, HTTPException) as error:
        raise _stranger(config) from error
    except OSError as error:
        raise _silent(config) from error


def _site(config: Config) -> str:
    bind = config.web.bind
    return f"http://{f'[{bind}]' if ':' in bind else bind}:{config.web.port}"


def _told(error: urllib.error.HTTPError) -> str:
    """Return why the broker refused: the error of its JSON, or its line of text."""
    text = error.read(1000).decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["error"])
    except (ValueError, TypeError, KeyError):
        return text or f"{error.code} {error.reason}"


def _stranger(config: Config) -> click.ClickException:
    return click.ClickException(f"what answers on port {config.web.port} is no broker")


def _silent(config: Config) -> click.ClickException:
    return click.ClickException(f"no broker answers on port {config.web.port} (see `broker run`)")


def _from_store(config: Config, fn: Callable[[Transaction], object]) -> Any:
    where = config.data / "broker.db" if config.store == "sqlite" else config.store
    if isinstance(where, Path) and not where.exists():
        raise click.ClickException(
            f"no broker answers on port {config.web.port}, and there is no store in {config.data} (see `broker run`)"
        )
    value = look(where, fn)
    return [asdict(one) for one in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
