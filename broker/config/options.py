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
EVENTS = ("order.placed", "exam.scheduled", "exam.changed", "exam.arrived")  # what may set off a prefetch
PREFETCH_RULE = (
    Option("on", "texts", "What sets it off.", default=["exam.scheduled", "exam.arrived"], choices=EVENTS, example=["exam.scheduled"]),
    Option("modality", "texts", "Only for exams of these modalities.", default=(), example=["CT", "MR"]),
    Option(
        "body_part", "texts", "Only for exams of these body parts, as the table `body_parts` names them.", default=(), example=["CHEST"]
    ),
    Option("procedure", "texts", "Only for exams with these procedure codes.", default=(), example=["CTCHEST"]),
    Option("from", "texts", "DICOM destinations that are searched, instead of those of the section.", default=(), example=["archive"]),
    Option("to", "text", "The DICOM destination that priors are moved to: a reading station or an archive.", example="archive"),
    Option("count", "integer", "Most priors of one exam; the most relevant, and of equals the latest.", default=3, example=3),
    Option("age", "duration", "Older studies are left where they are; without it none is too old.", default=None, example="1825d"),
    Option(
        "relevance",
        "text",
        "The code table that says what is relevant: `CT CHEST` in its first column, in its second `CT CHEST; CR CHEST; PT`, the most "
        "relevant first. `*` is any modality.",
        default="prior_relevance",
        example="prior_relevance",
    ),
    Option(
        "body_parts",
        "text",
        "The code table that gives the body part of procedure codes and of words in descriptions.",
        default="body_parts",
        example="body_parts",
    ),
)
PREFETCH = (
    Option("from", "texts", "DICOM destinations that are searched for priors, the preferred one first.", default=(), example=["archive"]),
    Option("ahead", "duration", "Begin so long before the scheduled start at the earliest.", default="3d", example="3d"),
    Option("late", "duration", "Give up so long after the scheduled start.", default="4h", example="4h"),
    Option("at_once", "integer", "Most moves under way at the same time.", default=2, example=2),
    Option("patience", "duration", "Give up a search or move when nothing is heard for so long.", default="5m", example="5m"),
    Option(
        "hours",
        "texts",
        "Times of the week, in the site's time zone, at which it is worked for exams of later days; one that begins before the next of "
        "them is worked for at once. At any time when absent.",
        default=(),
        example=["20:00-06:00"],
    ),
    Option("rules", "mapping", "Which priors are wanted, by a name of their own.", default={}),
)
SPOOL = (
    Option("budget", "capacity", "What the objects may take: a size, or a share of their disk.", default="80%", example="200 GB"),
    Option(
        "low", "percent", "Share of the budget above which objects that nobody needs go, the oldest first.", default="80%", example="80%"
    ),
    Option(
        "high",
        "percent",
        "Share of the budget from which only objects of urgent exams are taken; others are answered 0xA700, and come again.",
        default="95%",
        example="95%",
    ),
    Option("free", "capacity", "What stays free of the disk, whatever the budget says.", default="1 GB", example="5%"),
    Option(
        "keep",
        "duration",
        "An object stays so long after its last delivery; less where new ones would be refused otherwise.",
        default="7d",
        example="7d",
    ),
    Option("age", "duration", "An object that nobody needs goes after so long, also when there is room.", default=None, example="90d"),
    Option("unfinished", "duration", "An object waits at most so long for the end of its exam.", default="30d", example="30d"),
    Option("urgent", "texts", "Calling AE titles whose objects are taken like those of urgent exams.", default=(), example=["CT_ER"]),
)
COMPLETION = (
    Option(
        "by",
        "texts",
        "The evidence that counts: `performed` (an MPPS names series and instances), `commitment` (the modality names what it has sent), "
        "`query` (the sender is asked), `closed` (it ends its association; only where one association is one study), `quiet`.",
        default=["performed", "commitment", "query", "quiet"],
        choices=("performed", "commitment", "query", "closed", "quiet"),
        example=["performed", "quiet"],
    ),
    Option("quiet", "duration", "Without a further image for so long, what came is all there is.", default="15m", example="15m"),
    Option("performing", "duration", "The same, while a performed procedure step is in progress.", default="4h", example="4h"),
    Option(
        "ask",
        "mapping",
        "Modalities that answer queries: calling AE title, and the DICOM destination that it is. They are asked once they are quiet.",
        default={},
        example={"CT1": "ct1"},
    ),
)
TOP = (
    Option("version", "integer", "The version of this file's language.", example=VERSION),
    Option("site", "mapping", "Whose broker this is.", options=SITE),
    Option("data", "path", "Folder of the store and the image spool.", default="./data", example="./data"),
    Option("spool", "mapping", "How much room images take, and when they go.", default={}, options=SPOOL),
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
    Option("complete", "mapping", "When the images of an exam count as complete.", default={}, options=COMPLETION),
    Option("prefetch", "mapping", "Which prior studies are moved ahead of an exam, from where and to where.", default={}, options=PREFETCH),
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
    schema["properties"]["prefetch"]["properties"]["rules"]["additionalProperties"] = mapping_schema(PREFETCH_RULE)
    return schema
