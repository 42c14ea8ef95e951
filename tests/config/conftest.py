"""A small configuration in a folder of its own, over listeners and destinations that only exist here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.config.check import Checked, check_config
from broker.spec import Option, Spec

_PORT = Option("port", "integer", "TCP port.")
_BIND = Option("bind", "text", "Address.", default="127.0.0.1")
_HOST = Option("host", "text", "Peer.", default="127.0.0.1")


@dataclass(frozen=True)
class Registry:
    LISTENERS: Mapping[str, Spec]
    DESTINATIONS: Mapping[str, Spec]
    PROTOCOLS: Mapping[str, Any]
    CHECKS: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    WARNINGS: Mapping[str, Any] = field(default_factory=dict)


REGISTRY = Registry(
    PROTOCOLS={"mllp": "hl7", "dicom": "dicom"},
    LISTENERS={
        "mllp": Spec("mllp", "listener", "HL7.", (_PORT, _BIND, Option("idle", "duration", "Idle.", default="30s")), "mllp: {port: 1}"),
        "dicom": Spec("dicom", "listener", "DICOM.", (_PORT, _BIND), "dicom: {port: 2}"),
    },
    DESTINATIONS={
        "mllp": Spec("mllp", "destination", "HL7.", (_PORT, _HOST), "mllp: {port: 1}"),
        "dicom": Spec("dicom", "destination", "DICOM.", (_PORT, _HOST), "dicom: {port: 2}"),
    },
)

FILES = {
    "channels.yaml": """\
version: 1
site:
  authority: HOSP
data: ./data
tables: tables/
web:
  port: 8080
listeners:
  hospital:
    mllp:
      port: ${HL7_PORT:-2575}
  modalities:
    dicom:
      port: 11112
destinations:
  archive:
    dicom: {port: 4242}
  ehr:
    mllp: {port: 2577}
channels:
  orders: {from: hospital, route: routes/orders.yaml}
  images: {from: modalities, route: routes/images.yaml}
""",
    "routes/orders.yaml": """\
description: Orders.
accept: MSH-9.1 = ORM
steps:
  - require: PID-3.1
  - map: {path: PID-8, table: sex}
to:
  - send: ehr
""",
    "routes/images.yaml": """\
description: Images.
to:
  - send: archive
""",
    "tables/sex.csv": "sent,code\nM,M\nF,F\n",
    "tables/stations.csv": "ae_title,modality,room,opens,closes\nCT1,CT,Room 1,0800,1800\n",
}

POINTER = "# yaml-language-server: $schema=https://example.org/any.schema.json\n"  # at the end, so that the lines above keep their numbers

Check = Callable[..., Checked]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write the small configuration with some text replaced or files added, and check it."""

    def check(*replaced: tuple[str, str, str], files: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Checked:
        texts = {**FILES, **(files or {})}
        for name, old, new in replaced:
            assert old in texts[name], old
            texts[name] = texts[name].replace(old, new)
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text + (POINTER if name.endswith(".yaml") else ""))
        return check_config(tmp_path / "channels.yaml", env or {}, REGISTRY)

    return check
