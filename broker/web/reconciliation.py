"""The reconciliation list for programs: what is open, what it may be, and what a person does about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, Protocol

from broker.dicom.rejection import TITLES
from broker.errors import MessageError, StoreError
from broker.obs.status import CorrectionItem, EntryItem
from broker.web.http import Answer, Asked, BadRequest

JSON = "application/json; charset=utf-8"
MOST = 200  # characters of what a person writes


class Reconciliation(Protocol):
    """What these pages ask of the engine; what has a number raises LookupError when there is no such thing, MessageError otherwise."""

    def entries(self) -> Awaitable[list[EntryItem]]:
        """Return the open entries, newest first."""

    def entry(self, id: int) -> Awaitable[EntryItem]:
        """Return one entry with the exams that fit best."""

    def link(self, id: int, accession: str, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Tie an entry to an exam."""

    def correct(self, id: int, accession: str, patient: str, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Say which accession number or patient it has."""

    def release(self, id: int, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Send it on as it is."""

    def undo(self, id: int, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Take the last correction of an entry back."""

    def move(self, study: str, series: str, accession: str, title: str, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Move a study or series to another exam."""

    def undo_move(self, study: str, author: str, why: str) -> Awaitable[CorrectionItem]:
        """Take the last move of a study back."""


class ReconciliationApi:
    """Answers in JSON: 404 for what there is none of, 409 for what cannot be done."""

    def __init__(self, reconciliation: Reconciliation) -> None:
        self._on = reconciliation

    async def entries(self, asked: Asked) -> Answer:
        """Answer with the open entries."""
        return _answer({"entries": [asdict(one) for one in await self._on.entries()]})

    async def entry(self, asked: Asked) -> Answer:
        """Answer with the entry of the path."""
        return await _tried(self._on.entry(_number(asked.rest)))

    async def link(self, asked: Asked) -> Answer:
        """Tie the entry of the path to the exam with the accession number of the query."""
        return await _tried(self._on.link(_number(asked.rest), _needed(asked, "accession"), *_said(asked)))

    async def correct(self, asked: Asked) -> Answer:
        """Correct the accession number or the patient of the entry of the path."""
        accession, patient = asked.get("accession")[:MOST], asked.get("patient")[:MOST]
        if not (accession or patient):
            raise BadRequest("accession or patient is needed here")
        return await _tried(self._on.correct(_number(asked.rest), accession, patient, *_said(asked)))

    async def release(self, asked: Asked) -> Answer:
        """Send the entry of the path on as it is."""
        return await _tried(self._on.release(_number(asked.rest), *_said(asked)))

    async def undo(self, asked: Asked) -> Answer:
        """Take the last correction of the entry of the path back."""
        return await _tried(self._on.undo(_number(asked.rest), *_said(asked)))

    async def move(self, asked: Asked) -> Answer:
        """Move the study of the path, or its series that the query names, to another exam."""
        title = asked.get("title") or "worklist"
        if title not in TITLES:
            raise BadRequest(f"there is no such title; there are {', '.join(TITLES)}")
        series = asked.get("series")[:MOST]
        return await _tried(self._on.move(asked.rest[:MOST], series, _needed(asked, "accession"), title, *_said(asked)))

    async def undo_move(self, asked: Asked) -> Answer:
        """Take the last move of the study of the path back."""
        return await _tried(self._on.undo_move(asked.rest[:MOST], *_said(asked)))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("the number of an entry is needed here")
    return int(text)


def _needed(asked: Asked, name: str) -> str:
    if not (text := asked.get(name)[:MOST]):
        raise BadRequest(f"{name} is needed here")
    return text


def _said(asked: Asked) -> tuple[str, str]:
    return asked.get("by")[:MOST] or "somebody", _needed(asked, "why")


async def _tried(doing: Awaitable[Any]) -> Answer:
    try:
        return _answer(asdict(await doing))
    except LookupError:
        return _answer({"error": "there is no such entry, or nothing to undo"}, 404)
    except MessageError as error:
        return _answer({"error": str(error)}, 409)
    except StoreError as error:
        return _answer({"error": str(error)}, 503)


def _answer(value: Any, code: int = 200) -> Answer:
    return Answer(json.dumps(value, default=str).encode() + b"\n", JSON, code)
