"""A scenario under way in process: a broker without sockets, its senders, modalities and receivers, and what they know so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from broker.config import callbacks
from broker.config.models import Config
from broker.connectors.dicom_peers import read_peers
from broker.dicom.commitment import Report, read_report
from broker.dicom.dataset import EXPLICIT_LITTLE, decode
from broker.dicom.dimserequest import decode_request
from broker.engine.stage import Stage
from broker.pipeline.scenario import Scenario
from broker.simulate.sinks import Sink
from broker.simulate.station import HOST, Station, text

_PEER = "127.0.0.1:40000"

T = TypeVar("T")


class Failed(Exception):
    """A step did not see what it must see; the text says what it saw, one line each."""


class Play:
    """One scenario under way."""

    def __init__(self, stage: Stage, config: Config, scenario: Scenario) -> None:
        self.stage, self.config, self.scenario = stage, config, scenario
        self.sinks = {one.name: Sink(one.name, "dicom" if one.kind in ("dicom", callbacks.KIND) else "hl7", stage) for one in config.queues}
        self.stations: dict[str, Station] = {}
        self.taken: dict[str, int] = {}  # receivers that were asked, and how much of what they got
        self.last, self.answer = b"", b""
        self.sent = 0
        self.files: set[Path] = set()
        stage.connect(self.sinks.values())

    def station(self, ae_title: str) -> Station:
        """Return the modality; it calls the first DICOM listener that knows it, else the first there is."""
        if ae_title not in self.stations:
            listeners = [one for one in self.config.listeners if one.kind == "dicom"]
            if not listeners:
                raise Failed("there is no DICOM listener that it could call")
            knowing = (one for one in listeners if read_peers(one.settings["peers"]).find(ae_title, HOST))
            self.stations[ae_title] = Station(ae_title, self.stage, next(knowing, listeners[0]))
        return self.stations[ae_title]

    def resolve(self, value: Any) -> Any:
        """Return the text with what stands in braces looked up in the worklist entry that a modality chose last."""
        if not isinstance(value, str):
            return value
        return re.sub(r"\{(\w+)\.([\w.]+)\}", lambda found: text(self.station(found[1]).entry, found[2]), value)

    def resolved(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields with their values resolved."""
        return {path: self.resolve(value) for path, value in fields.items()}

    def renamed(self, sample: str) -> str:
        """Return a sample with the names this scenario uses."""
        for word, name in self.scenario.renamed.items():
            new = self.resolve(name)
            sample = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", new.replace("\\", r"\\"), sample)
        return sample

    def file(self, name: str) -> Path:
        """Return where a sample is: beside the scenario, or in the folder of channels.yaml."""
        beside = Path(self.scenario.file).parent / name
        found = beside if beside.is_file() else self.config.file.parent / name
        self.files.add(found)
        return found

    def say(self, listener: str, raw: bytes) -> None:
        """Send one message, and keep it and its answer."""
        self.last = raw
        self.answer = self.stage.wait(self.stage.hl7.receive_hl7(listener, _PEER, raw))

    def read(self, look: Callable[..., T], *args: Any) -> T:
        """Return what a function over a transaction finds in the store."""
        return self.stage.wait(self.stage.db.read("scenario", look, *args))

    def reports(self) -> Mapping[str, Report]:
        """Return the reports of storage commitment that modalities got, by Transaction UID."""
        queues = [one.name for one in self.config.queues if one.kind == callbacks.KIND]
        raw = [decode_request(payload).dataset for name in queues for payload in self.sinks[name].received]
        return {report.transaction: report for report in (read_report(decode(one, EXPLICIT_LITTLE)) for one in raw)}

    def count(self, name: str, labels: Mapping[str, str]) -> float:
        """Return the value of a metric, 0 when nothing was counted."""
        return self.stage.metrics.registry.get_sample_value(name, dict(labels)) or 0.0
