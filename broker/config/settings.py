"""The settings at the top of `channels.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from broker.config.options import SITE, SPOOL, TOP, VERSION, channels_schema
from broker.config.session import Session
from broker.dicom.standard import fault
from broker.pipeline.shape import Mistakes, check
from broker.spec import Option, percent

_PYTHON: Mapping[str, type | tuple[type, ...]] = {  # type of an option -> what YAML gives for it
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "mapping": dict,
    "texts": (str, list, tuple),
}
_EMPTY: Mapping[str, Any] = {"integer": 0, "number": 0, "boolean": False, "mapping": {}, "texts": ()}


def read_top(session: Session, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level settings with their defaults; a value of the wrong shape is replaced by its default."""
    mistakes = Mistakes()
    check(channels_schema(session.registry), value, mistakes)
    session.take(session.document, mistakes)
    if isinstance(value.get("version"), int) and value["version"] != VERSION:
        session.problem(("version",), f"version {value['version']} is not known to this broker", f"write version: {VERSION}")
    top = filled(TOP, value)
    _check_site(session, filled(SITE, top["site"]))
    _check_spool(session, filled(SPOOL, top["spool"]))
    if top["store"] != "sqlite" and not top["store"].startswith("postgresql://"):
        session.problem(("store",), "neither sqlite nor the URL of a PostgreSQL", "write sqlite or postgresql://user@host/database")
    return top


def _check_spool(session: Session, spool: Mapping[str, Any]) -> None:
    try:
        low, high = percent(spool["low"]), percent(spool["high"])
    except ValueError:
        return  # which the schema has told
    if low > high:
        session.problem(("spool", "low"), f"{spool['low']} is above high, {spool['high']}", "let objects go before others are refused")


def filled(options: tuple[Option, ...], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every option; one that is missing or of the wrong type becomes its default, or empty."""
    found = {}
    for option in options:
        kind = _PYTHON.get(option.type, str)
        default = option.default if isinstance(option.default, kind) else _EMPTY.get(option.type, "")
        given = value.get(option.name, default)
        found[option.name] = given if isinstance(given, kind) else default
    return found


def is_timezone(name: str) -> bool:
    """Return whether this is an IANA time zone."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def _check_site(session: Session, site: Mapping[str, Any]) -> None:
    if not is_timezone(site["timezone"]):
        session.problem(("site", "timezone"), f"{site['timezone']} is no time zone", "write an IANA name such as Europe/Paris")
    try:
        made = site["accession"].format(number=1), site["accession"].format(number=2)
    except (LookupError, ValueError, AttributeError):
        made = ("", "")
    if made[0] == made[1]:
        session.problem(("site", "accession"), "not a format that counts", 'write it like "A{number:08d}"')
    elif wrong := fault("SH", made[0]):
        session.problem(("site", "accession"), f"no accession number (SH): {wrong}", 'write it like "A{number:08d}"')
    root = site["uid_root"]
    if root and (fault("UI", root) or len(root) > 40):
        session.problem(("site", "uid_root"), f"{root} is no UID root of at most 40 characters", "write it like 1.2.840.99999")
