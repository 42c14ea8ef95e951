"""A configuration that may be run, or every reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from broker.config.check import Watch, check_config
from broker.config.models import Config
from broker.config.options import Registry
from broker.errors import ConfigError


def load(path: str | Path, environment: Mapping[str, str], registry: Registry, watch: Watch | None = None) -> Config:
    """Return the configuration; raises ConfigError with all problems."""
    checked = check_config(path, environment, registry, watch, standards=False)
    if checked.config is None:
        raise ConfigError(checked.problems)
    return checked.config
