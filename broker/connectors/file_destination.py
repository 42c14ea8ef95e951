"""The shell that delivers HL7 messages as files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from string import Formatter
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from broker.connectors.base import Defer
from broker.connectors.file_disk import LONGEST, SHA256, holds, write
from broker.errors import Retry
from broker.model import Delivery

FIELDS = ("type", "control_id", "id", "channel", "accession")
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class FileDestination:
    """Writes each message into a file of its own, one at a time."""

    width = 1

    def __init__(self, name: str, settings: Mapping[str, Any], defer: Defer) -> None:
        self.name = name
        self._folder = Path(settings["folder"])
        self._template: str = settings["name"]
        self._sums = settings["checksum"] == "sha256"
        self._defer = defer

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with "written" once the file is durable; fail with `Retry` when the disk does not take it."""
        return ensureDeferred(self._send(delivery))

    async def _send(self, delivery: Delivery) -> str:
        try:
            await self._defer(self._write, delivery)
        except OSError as error:
            raise Retry(f"cannot write the file: {error.strerror or type(error).__name__}") from error
        return "written"

    def close(self) -> Deferred[None]:
        """Nothing is open between two deliveries."""
        return succeed(None)

    def _write(self, delivery: Delivery) -> None:
        """Write the file, and its checksum after it; on a thread.

        A message that is there already, since a crash came before it was settled, is not written twice.
        """
        for name in _names(self._template, delivery):
            path = self._folder / name
            if holds(path, delivery.payload):
                break
            if not path.exists():
                write(path, delivery.payload)
                break
        if self._sums:
            line = f"{hashlib.sha256(delivery.payload).hexdigest()}  {path.name}\n"
            write(path.with_name(path.name + SHA256), line.encode())


def _names(template: str, delivery: Delivery) -> Iterator[str]:
    """Yield names for the file, never a path, the wished one first."""
    values = {
        "type": delivery.kind,
        "control_id": delivery.control_id,
        "id": str(delivery.id),
        "channel": delivery.channel,
        "accession": delivery.accession,
    }
    wished = template.format_map({key: _UNSAFE.sub("_", text) for key, text in values.items()}).lstrip(".") or "message.hl7"
    stem, dot, ending = wished.rpartition(".")
    stem, ending = (stem[:LONGEST], dot + ending[:20]) if stem else (wished[:LONGEST], "")
    yield stem + ending
    yield f"{stem}_{delivery.id}{ending}"
    for number in count(2):
        yield f"{stem}_{delivery.id}_{number}{ending}"


def check_name(template: str) -> str:
    """Return what is wrong with a template of file names, "" when nothing is."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError:
        return "a brace is open or closed without its other one"
    unknown = [field for _, field, form, how in pieces if field is not None and (field not in FIELDS or form or how)]
    if unknown:
        return f"{{{unknown[0]}}} is none of {', '.join(f'{{{field}}}' for field in FIELDS)}"
    text = "".join(literal for literal, *_ in pieces)
    if "/" in text or "\0" in text or template.startswith("."):
        return "a file name has no slash, and does not begin with a dot"
    if not any(field in ("control_id", "id") for _, field, *_ in pieces):
        return "{control_id} or {id} is needed, so that messages have names of their own"
    return ""
