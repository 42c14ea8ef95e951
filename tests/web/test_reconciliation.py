"""The pages of the reconciliation list: what they answer, and what of the query reaches the engine."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import MessageError, StoreError
from broker.obs.status import CandidateItem, CorrectionItem, EntryItem
from tests.web.client import Client

ENTRY = EntryItem(
    4, 1e9, "images", "1.2.3", "A1", "no such study", 9, 3, "open", (CandidateItem("A2", 90, ("why",), "CT", "CTCHEST", "", "scheduled"),)
)
DONE = CorrectionItem(7, "linked", "A2", 3, 0)


class Desk:
    """A desk that remembers what it was told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failing: Exception | None = None

    async def entries(self) -> list[EntryItem]:
        return [ENTRY]

    async def entry(self, id: int) -> EntryItem:
        self._do("entry", id)
        return ENTRY

    async def link(self, *asked: Any) -> CorrectionItem:
        return self._do("link", *asked)

    async def correct(self, *asked: Any) -> CorrectionItem:
        return self._do("correct", *asked)

    async def release(self, *asked: Any) -> CorrectionItem:
        return self._do("release", *asked)

    async def undo(self, *asked: Any) -> CorrectionItem:
        return self._do("undo", *asked)

    async def move(self, *asked: Any) -> CorrectionItem:
        return self._do("move", *asked)

    async def undo_move(self, *asked: Any) -> CorrectionItem:
        return self._do("undo_move", *asked)

    def _do(self, *asked: Any) -> CorrectionItem:
        if self.failing:
            raise self.failing
        self.asked.append(asked)
        return DONE


class Web(Client):
    def __init__(self) -> None:
        self.desk = Desk()
        super().__init__(reconciliation=self.desk)


@pytest.fixture
def web() -> Web:
    return Web()


def test_entries_come_with_what_fits_them(web: Web) -> None:
    code, found = web.ask("/api/unmatched")
    assert (code, found["entries"][0]["candidates"][0]["score"]) == (200, 90)
    assert web.ask("/api/unmatched/4")[1]["key"] == "1.2.3"
    assert web.desk.asked == [("entry", 4)]


SAID = {
    "/api/unmatched/link/4?accession=A2": ("link", 4, "A2"),
    "/api/unmatched/correct/4?accession=A2": ("correct", 4, "A2", ""),
    "/api/unmatched/correct/4?patient=4711%5EH": ("correct", 4, "", "4711^H"),
    "/api/unmatched/release/4?": ("release", 4),
    "/api/unmatched/undo/4?": ("undo", 4),
    "/api/images/move/1.2.3?accession=A2": ("move", "1.2.3", "", "A2", "worklist"),
    "/api/images/move/1.2.3?accession=A2&series=1.2.3.4&title=quality": ("move", "1.2.3", "1.2.3.4", "A2", "quality"),
    "/api/images/undo/1.2.3?": ("undo_move", "1.2.3"),
}


@pytest.mark.parametrize(("path", "asked"), SAID.items())
def test_what_a_person_says_reaches_the_engine(web: Web, path: str, asked: tuple[Any, ...]) -> None:
    code, done = web.act(f"{path}&by=ann&why=because")
    assert (code, done["id"], done["what"]) == (200, 7, "linked")
    assert web.desk.asked == [(*asked, "ann", "because")]
    assert web.ask(f"{path}&by=ann&why=because")[0] == 404  # it is done by POST only


@pytest.mark.parametrize(
    "path",
    [
        *(f"{path}&by=ann" for path in SAID),  # without a reason
        "/api/unmatched/link/4?why=x",
        "/api/unmatched/link/x?why=x&accession=A2",
        "/api/unmatched/correct/4?why=x",
        "/api/images/move/1.2.3?why=x",
        "/api/images/move/1.2.3?why=x&accession=A2&title=nosuch",
    ],
)
def test_what_is_missing_is_said(web: Web, path: str) -> None:
    code, said = web.act(path)
    assert code == 400
    assert b"needed here" in said or b"no such title" in said
    assert web.desk.asked == []


@pytest.mark.parametrize(("error", "code"), [(LookupError("x"), 404), (MessageError("", "closed already"), 409), (StoreError("gone"), 503)])
def test_what_cannot_be_done_is_refused(web: Web, error: Exception, code: int) -> None:
    web.desk.failing = error
    assert web.act("/api/unmatched/release/4?why=x")[0] == code
    assert web.ask("/api/unmatched/4")[0] == code
