"""HL7 in files: what may be configured, and the listener and destination that it configures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from broker.connectors.base import READ_IN, RETRY, WRITTEN_IN
from broker.connectors.file_destination import FileDestination, check_name
from broker.connectors.file_listener import FileListener
from broker.connectors.hours import HOURS, check_hours
from broker.spec import Option, Spec

__all__ = ["DESTINATION", "LISTENER", "FileDestination", "FileListener"]

LISTENER = Spec(
    "file",
    "listener",
    "Picks up HL7 v2 files from a folder, in the order of their names: each holds one message, several, or a batch. A file is moved away "
    "once all its messages are kept; after a crash it is read again, and what was kept before is recognised.",
    (
        Option("folder", "path", "Where the files appear.", example="/srv/hl7/in"),
        Option(
            "pattern", "text", "Which files, by their names; `*` stands for anything. Names that begin with a dot are never read.", "*.hl7"
        ),
        Option("every", "duration", "How often the folder is looked at.", "5s"),
        Option(
            "settle",
            "duration",
            "A file is read once its size and time have not changed for so long; `0s` where files are moved in as a whole.",
            "2s",
        ),
        Option(
            "archive", "path", "Folder for files whose messages are all accepted, as seen from `folder`; `none` removes them.", "archive"
        ),
        Option(
            "failed",
            "path",
            "Folder for files that cannot be read, have a message refused, or a wrong count; a file named *.why beside them says what.",
            "failed",
        ),
        Option(
            "answers", "path", "Folder for the answers, named as the file with .ack; without it, they are not written.", None, "answers"
        ),
        Option(
            "checksum", "text", "`sha256` waits for a file named *.sha256 beside each, and compares.", "none", choices=("none", "sha256")
        ),
        *READ_IN,
        Option("limit", "size", "The most bytes of one file.", "64 MB"),
    ),
    "file: {folder: /srv/hl7/in, pattern: '*.hl7', every: 5s, archive: /srv/hl7/done, answers: /srv/hl7/answers}",
)

DESTINATION = Spec(
    "file",
    "destination",
    "Writes each HL7 v2 message into a file of its own, which appears under its name only when it is whole and on disk.",
    (
        Option("folder", "path", "Where the files are written.", example="/srv/hl7/out"),
        Option(
            "name",
            "text",
            "Name of a file, from {type}, {control_id}, {id} (the number of the delivery), {channel} and {accession}; what is no letter, "
            "digit, dot or dash in these becomes an underscore. A name that another message has already gets the number of the delivery.",
            "{type}_{control_id}.hl7",
            "{id}_{type}.hl7",
        ),
        Option("checksum", "text", "`sha256` writes a file named *.sha256 after each.", "none", choices=("none", "sha256")),
        *WRITTEN_IN,
        HOURS,
        RETRY,
    ),
    "file: {folder: /srv/hl7/out, name: '{type}_{control_id}.hl7', checksum: sha256}",
)


def check_listener(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of a listener's settings."""
    if "/" in settings["pattern"]:
        yield "pattern", "a pattern names files in the folder, and has no slash"
    for key in [key for key in ("archive", "failed", "answers") if settings[key] not in (None, "none")]:
        if os.path.normpath(os.path.join(settings["folder"], settings[key])) == os.path.normpath(settings["folder"]):
            yield key, "files that are kept in the folder itself would be read again; name another one"


def check_destination(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of a destination's settings."""
    for wrong in check_hours(settings["window"]):
        yield "window", wrong
    if wrong := check_name(settings["name"]):
        yield "name", wrong
