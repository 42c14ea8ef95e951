"""Changes as a person reads them: the place, what the standard calls it, what it was and what it is."""

from __future__ import annotations

import click
from pydicom.datadict import dictionary_description, tag_for_keyword

from broker.hl7 import standard
from broker.model import Change


def change_line(change: Change, version: str = "") -> str:
    """Return a change in one line; `version` is the HL7 version of the message, "" for a DICOM header."""
    name = dicom_name(change.path) if "-" not in change.path and not version else hl7_name(change.path, version)
    place = click.style(change.path, bold=True) + (f" {name}" if name else "")
    if change.kind == "moved":
        return f"{place}: moved, {change.after}"
    before = click.style(repr(change.before), fg="red", strikethrough=bool(change.before))
    return f"{place}: {before} → {click.style(repr(change.after), fg='green')}"


def hl7_name(path: str, version: str) -> str:
    """Return what the standard calls a place in this version, in the default one when the version is none; "" when it knows none."""
    try:
        return standard.name_of(path, version or standard.DEFAULT) or standard.name_of(path)
    except (LookupError, ValueError):
        return standard.name_of(path)


def dicom_name(path: str) -> str:
    """Return what the standard calls an attribute with its tag, of the last keyword of a dotted path; "" when it knows none."""
    tag = tag_for_keyword(path.rpartition(".")[2])
    if tag is None:
        return ""
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
