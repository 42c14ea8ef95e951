"""A spooled object made ready for a C-STORE over an association whose presentation contexts are settled already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset

from broker.connectors.dicom_preparing import ready_at_once, ready_by_library
from broker.dicom.coerce import prepared
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode, read_header
from broker.dicom.files import read_meta
from broker.dicom.negotiation import Context
from broker.dicom.scan import DEFLATED
from broker.model import StoreRequest

PLAIN = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_FROM = (*PLAIN, DEFLATED)  # what is written in these without touching a pixel
_SYSTEM = "BROKER"

Ready = tuple[Context, str, bytes, BinaryIO]  # the context to send it in, its SOP Instance UID, what stands for its header, the open rest


def opened(path: Path, request: StoreRequest, contexts: Sequence[Context]) -> Ready | None:
    """Return the object as one of these contexts takes it, None when none does; blocks.

    Pixel data stays as it is: only an object that is not compressed is written anew, where its own transfer syntax was not accepted.
    Raises MessageError for a damaged header, OSError when the file cannot be read.
    """
    syntax = request.spooled.transfer_syntax
    same = next((context for context in contexts if context.syntax == syntax), None)
    if same is None:
        other = next((context for context in contexts if context.syntax in PLAIN), None)
        return _converted(path, request, other) if other is not None and syntax in _FROM else None
    ready = ready_at_once(str(path), request, _SYSTEM, _now()) or ready_by_library(str(path), request, _SYSTEM, _now())
    return same, ready.sop_instance, ready.head, ready.file


def accepted(contexts: Iterable[Context]) -> dict[str, tuple[str, ...]]:
    """Return the transfer syntaxes from which `opened` makes something that these contexts take, by SOP class."""
    found: dict[str, tuple[str, ...]] = {}
    for context in contexts:
        syntaxes = PLAIN if context.syntax in PLAIN else (context.syntax,)
        found[context.abstract] = tuple(dict.fromkeys((*found.get(context.abstract, ()), *syntaxes)))
    return found


def _converted(path: Path, request: StoreRequest, context: Context) -> Ready:
    dataset = _whole(path, request.spooled.transfer_syntax)
    if request.changes:
        dataset = prepared(dataset, request, system=_SYSTEM, now=_now())
    instance = str(dataset.get("SOPInstanceUID") or request.spooled.sop_instance)
    data = encode(dataset, context.syntax)
    file = open(path, "rb")  # noqa: SIM115 - closed by who sends it; nothing of it is left to send
    file.seek(0, os.SEEK_END)
    return context, instance, data, file


def _whole(path: Path, syntax: str) -> Dataset:
    """Return all of an object, each element decoded: what is still in the bytes of one syntax must not get into another."""
    if syntax == DEFLATED:
        dataset, _ = read_header(path)  # of such an object that is all of it
    else:
        with open(path, "rb") as file:
            file.seek(read_meta(file).offset)
            dataset = decode(file.read(), syntax)
    for _ in dataset.iterall():
        pass
    return dataset


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
