"""What one configuration makes of a message: everything that is exchanged between two messages when another one is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import generate_uid

from broker.config.models import Config
from broker.dicom.scan import ROUTING
from broker.engine.calls import Calls
from broker.engine.hl7intake import Manner, manner_of
from broker.engine.passage import Site
from broker.engine.router import Router
from broker.pipeline.header import PSEUDO
from broker.ris.context import SlotRules


@dataclass(frozen=True, slots=True)
class Rules:
    """How messages are read, judged and routed."""

    router: Router
    site: Site
    unmatched: Mapping[str, str]  # listener -> what happens to a message that no channel accepts
    manners: Mapping[str, Manner]  # HL7 listener -> how its messages are read and answered
    keywords: tuple[str, ...]  # of an object's header, that are read


def rules_of(config: Config, new_uid: Callable[[], str] | None = None, *, load: bool = True) -> Rules:
    """Return the rules of a configuration; `new_uid` takes the place of UIDs under the site's root.

    The site's own modules are loaded now, or with `load=False` when they are first needed. Raises ConfigError when one cannot be.
    """
    calls = Calls()
    if load:
        calls.load(function for channel in config.channels for function in channel.route.functions)
    root = f"{config.site.uid_root}." if config.site.uid_root else None
    uid = new_uid or (lambda: str(generate_uid(prefix=root)))
    return Rules(
        router=Router(config.channels),
        site=Site(
            config.site.authority,
            uid,
            config.site.accession,
            config.stations,
            SlotRules(),
            calls,
            completion=config.completion,
            prefetch=config.prefetch,
        ),
        unmatched={listener.name: listener.unmatched for listener in config.listeners},
        manners={one.name: manner_of(one.settings) for one in config.listeners if {"charset", "fallback"} <= one.settings.keys()},
        keywords=_keywords(config),
    )


def _keywords(config: Config) -> tuple[str, ...]:
    """Return the attributes of an object's header that some route reads, and those everybody wants."""
    read = {path for channel in config.channels if channel.protocol == "dicom" for path in channel.route.paths}
    return tuple(dict.fromkeys((*ROUTING, *sorted(read - set(PSEUDO)))))
