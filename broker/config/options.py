"""The settings of `channels.yaml`, declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from broker.model import Protocol as ProtocolName
from broker.spec import Option, Spec, mapping_schema

VERSION = 1

Concerns = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]  # settings -> (key, what is wrong with it)


class Registry(Protocol):
    """The kinds of listener and destination there are; `broker.connectors.registry` is one."""

    @property
    def LISTENERS(self) -> Mapping[str, Spec]:
        """Listeners by the key they have in channels.yaml."""

    @property
    def DESTINATIONS(self) -> Mapping[str, Spec]:
        """Destinations by the key they have in channels.yaml."""

    @property
    def PROTOCOLS(self) -> Mapping[str, ProtocolName]:
        """What each kind carries."""

    @property
    def CHECKS(self) -> Mapping[tuple[str, str], Concerns]:
        """What keeps settings from being used that a schema cannot say, by section and kind."""

    @property
    def WARNINGS(self) -> Mapping[str, Concerns]:
        """What a person should look at in settings, by kind."""


SITE = (
    Option("name", "text", "The site's name.", default="", example="General Hospital"),
    Option("authority", "text", "Assigning authority of identifiers that name none.", example="GENHOSP"),
    Option("timezone", "text", "IANA time zone of the site's clocks.", default="UTC", example="Europe/Paris"),
    Option("application", "text", "Name of the broker in the messages it builds (MSH-3).", default="BROKER", example="BROKER"),
    Option("accession", "text", "Format of accession numbers the broker gives.", default="A{number:08d}", example="A{number:08d}"),
    Option(
        "uid_root", "text", "Root of the UIDs the broker makes; without it, UUID-derived ones (2.25).", default="", example="1.2.840.99999"
    ),
)
WEB = (
    Option("port", "integer", "TCP port of metrics, health and API.", default=8080, example=8080),
    Option("bind", "text", "Address to listen on.", default="127.0.0.1", example="0.0.0.0"),
)
CHANNEL = (
    Option("from", "text", "The listener that feeds it, or `ris` for what happens in the department.", example="hospital"),
    Option("route", "path", "The file that says what happens, from the folder of channels.yaml.", example="routes/orders.yaml"),
)
UNMATCHED = Option(
    "unmatched",
    "text",
    "What happens to a message that no channel accepts: `reject` answers AR, `park` answers AA and keeps it for a person, "
    "`drop` answers AA.",
    default="reject",
    choices=("reject", "park", "drop"),
)
TOP = (
    Option("version", "integer", "The version of this file's language.", example=VERSION),
    Option("site", "mapping", "Whose broker this is.", options=SITE),
    Option("data", "path", "Folder of the store and the image spool.", default="./data", example="./data"),
    Option("store", "text", "`sqlite` in the data folder, or the URL of a PostgreSQL that several nodes share.", default="sqlite"),
    Option("node", "text", "Name of this node among those that share a store.", default="", example="node-1"),
    Option("web", "mapping", "Metrics, health and API.", default={}, options=WEB),
    Option("tables", "path", "Folder of the code tables; every CSV is one, named by its file.", default="mappings/", example="mappings/"),
    Option("stations", "text", "The code table that names the modalities that can be booked.", default="stations", example="stations"),
    Option(
        "reload",
        "text",
        "When a running broker takes changed files: `on_request` by `broker apply` or SIGHUP, `on_change` also by itself.",
        default="on_request",
        choices=("on_request", "on_change"),
    ),
    Option(
        "extensions",
        "texts",
        "HL7 fields and segments that senders use although no version of the standard has them; `broker check` takes them as they are.",
        default=(),
        example=["OBR-51", "PID-40"],
    ),
    Option("listeners", "mapping", "What the broker listens on.", default={}),
    Option("destinations", "mapping", "Where it delivers to.", default={}),
    Option(
        "channels",
        "mapping",
        "Which route is fed by what; a message runs through every channel that accepts it, in this order.",
        default={},
    ),
)


def listener_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of one entry of `listeners`."""
    schema = _one_of(registry.LISTENERS)
    schema["properties"]["unmatched"] = UNMATCHED.schema()
    return schema


def destination_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of one entry of `destinations`."""
    return _one_of(registry.DESTINATIONS)


def _one_of(specs: Mapping[str, Spec]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: spec.schema() for name, spec in specs.items()}, "additionalProperties": False}


def channels_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of `channels.yaml`."""
    schema = mapping_schema(TOP)
    named = {"listeners": listener_schema(registry), "destinations": destination_schema(registry), "channels": mapping_schema(CHANNEL)}
    for name, inner in named.items():
        schema["properties"][name]["additionalProperties"] = inner
    return schema
