"""A department in memory: the shipped configuration, its routes, a RIS and a store, driven by one thread without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.engine.passage import Passage, Site
from broker.engine.router import Channel, Router
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Spooled
from broker.pipeline.cases import Case, Given, Happened
from broker.pipeline.header import Header
from broker.ris.context import SlotRules
from broker.store import sqlite

ROOT = Path(__file__).parents[2]
NOW = "20260302080000"


def shipped(environment: Mapping[str, str] | None = None) -> Config:
    return load(ROOT / "channels.yaml", environment or {}, registry)


def dataset_of(attributes: Mapping[str, str]) -> Dataset:
    """A dataset of keyword and text; a dotted keyword stands in the first item of its sequence."""
    dataset = Dataset()
    for path, text in attributes.items():
        *sequences, keyword = path.split(".")
        inner = dataset
        for sequence in sequences:
            if sequence not in inner:
                setattr(inner, sequence, Sequence([Dataset()]))
            inner = getattr(inner, sequence)[0]
        setattr(inner, keyword, text)
    return dataset


@dataclass
class Department:
    """Takes in one thing after the other, as the engine does."""

    config: Config
    engine: sqlite.SqliteEngine = field(default_factory=lambda: sqlite.open_engine(":memory:"))
    received: int = 0
    uids: int = 0

    def __post_init__(self) -> None:
        self.tx = self.engine.begin(True)
        self.router = Router([Channel(c.name, c.source, c.route) for c in self.config.channels])
        self.site = Site(self.config.site.authority, self._new_uid, self.config.site.accession, self.config.stations, SlotRules())

    def _new_uid(self) -> str:
        self.uids += 1
        return f"2.25.{self.uids}"

    def close(self) -> None:
        self.engine.rollback()
        self.engine.close()

    def take(self, given: Given, changes: Mapping[str, str] | None = None) -> Happened:
        self.received += 1
        spooled = None
        if given.kind == "hl7":
            subject: Message | Header = Message.parse((ROOT / given.file).read_bytes())
            for path, value in (changes or {}).items():
                subject.set(path, value)
            listener, good, bad = "hospital", "AA", "AE"
        else:
            listener, good, bad = "modalities", "0x0000", "0x0110"
            attributes = {**given.attributes, **(changes or {})}
            if given.kind == "image":
                uid = attributes["SOPInstanceUID"]
                spooled = Spooled(f"spooled-{self.received}", "1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2.1", 1000, "d1")
                subject = Header(attributes, kind="C-STORE", sender=given.sender, uid=uid)
            else:
                kind = "N-CREATE" if given.create else "N-SET"
                subject = Header({}, dataset_of(attributes), kind=kind, sender=given.sender, uid=given.uid)
        passage = Passage(self.tx, self.site, self.received, NOW, 0.0, spooled)
        try:
            with self.tx.savepoint():
                routed = self.router.route(listener, subject, passage)
        except MessageError as error:
            return Happened(bad, error.path, error.why, "parked")
        if routed is None:
            return Happened("AR", message="refused")
        view = passage.view()
        if spooled and view.get("exam") is None:
            view = passage.find_exam(accession=subject.get("AccessionNumber")) or {}
        return Happened(good, message="parked" if routed.held else "routed", view=view, sent=routed.outgoing)

    def run(self, case: Case) -> Happened:
        for given in case.before:
            happened = self.take(given)
            assert happened.answer in ("AA", "0x0000"), f"{given}: {happened}"
        return self.take(case.given, case.changes)
