"""pydicom's own test files, in every transfer syntax among them, through a running broker: bit for bit; and transcoded, read by DCMTK."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import data as pydicom_data
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, MediaStorageDirectoryStorage, RLELossless
from pynetdicom import AE, _config, evt

from broker.dicom import codecs
from broker.dicom.files import read_meta
from broker.dicom.transcode import transcode
from tests.peers import BrokerProcess, eventually

FILES = Path(pydicom_data.__file__).parent / "test_files"

CONFIG = """\
version: 1
site: {name: Test Hospital, authority: TEST}
data: ${BROKER_DATA}
web:
  port: ${WEB_PORT}
listeners:
  modalities:
    dicom:
      port: ${DICOM_PORT}
      services: [store]
      peers:
        "*": {private: true}
destinations:
  archive:
    dicom:
      host: 127.0.0.1
      port: ${ARCHIVE_DICOM_PORT}
      ae_title: ARCHIVE
channels:
  images: {from: modalities, route: routes/all.yaml}
"""
ROUTE = "description: Everything to the archive.\naccept: kind = C-STORE\nto:\n  - send: archive\n"


class Object:
    """One file: what its meta information says, and its dataset as it stands in it."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self.meta = read_meta(file)
            file.seek(self.meta.offset)
            self.data = file.read()
        self.path, self.name = path, path.name


def objects() -> list[Object]:
    """Return the files that are whole objects: with meta information, each SOP instance once."""
    found: dict[str, Object] = {}
    for path in sorted(FILES.rglob("*.dcm")):
        try:
            one = Object(path)
        except Exception:
            continue
        if one.meta.sop_class != MediaStorageDirectoryStorage and one.meta.sop_class and one.meta.sop_instance and one.meta.transfer_syntax:
            found.setdefault(one.meta.sop_instance, one)
    return list(found.values())


class BitKeeper:
    """A C-STORE SCP that keeps each dataset as its bytes came."""

    def __init__(self, port: int, wanted: list[Object]) -> None:
        self.received: dict[str, tuple[str, bytes]] = {}
        self._ae = AE("ARCHIVE")
        self._ae.maximum_associations = 20
        syntaxes: dict[str, set[str]] = {}
        for one in wanted:
            syntaxes.setdefault(one.meta.sop_class, set()).add(one.meta.transfer_syntax)
        for sop_class, some in syntaxes.items():
            self._ae.add_supported_context(sop_class, sorted(some))
        self._server: Any = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])

    def stop(self) -> None:
        """Close the port and every association."""
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        data = event.request.DataSet.getvalue()
        self.received[str(event.request.AffectedSOPInstanceUID)] = (str(event.context.transfer_syntax), data)
        return 0


@pytest.fixture(name="broker")
def broker_(tmp_path: Path) -> Iterator[BrokerProcess]:
    (tmp_path / "routes").mkdir()
    (tmp_path / "channels.yaml").write_text(CONFIG)
    (tmp_path / "routes/all.yaml").write_text(ROUTE)
    broker = BrokerProcess(tmp_path, config=tmp_path / "channels.yaml")
    broker.start()
    yield broker
    broker.stop()


def send(port: int, one: Object) -> int:
    """Send the bytes of a file as they are; return the status."""
    ae = AE("CT1")
    ae.add_requested_context(one.meta.sop_class, one.meta.transfer_syntax)
    association = ae.associate("127.0.0.1", port, ae_title="BROKER")
    assert association.is_established, (one.name, one.meta)
    status: Any = association.send_c_store(one.path)
    association.release()
    return int(status.Status)


def test_every_file_arrives_bit_for_bit(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    wanted = objects()
    assert len({one.meta.transfer_syntax for one in wanted}) >= 11
    archive = BitKeeper(broker.ports["ARCHIVE_DICOM_PORT"], wanted)
    request.addfinalizer(archive.stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = {one.name: send(broker.ports["DICOM_PORT"], one) for one in wanted}
    assert {name: status for name, status in answers.items() if status} == {}
    eventually(lambda: len(archive.received) == len(wanted), "every object is at the archive", 60.0)
    changed = [one.name for one in wanted if archive.received[one.meta.sop_instance] != (one.meta.transfer_syntax, one.data)]
    assert changed == []


SOURCES = ("CT_small.dcm", "MR_small_bigendian.dcm", "SC_rgb_dcmtk_+eb+cy+s2.dcm", "693_J2KI.dcm", "SC_rgb_rle_2frame.dcm")
READERS = {JPEGLSLossless: ["dcmdjpls"], RLELossless: ["dcmdrle"], JPEGLosslessSV1: ["dcmdjpeg", "+cn"]}


@pytest.mark.parametrize("syntax", list(READERS), ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_bigendian.dcm", "SC_rgb_dcmtk_+eb+cy+s2.dcm", "693_J2KI.dcm", "SC_rgb_rle_2frame.dcm"]
)
def test_dcmtk_reads_the_same_pixels_from_what_was_transcoded(syntax: Any, name: str, tmp_path: Path) -> None:
    source = FILES / name
    transcode(source, tmp_path / "made.dcm", syntax)
    done = subprocess.run([*READERS[syntax], "made.dcm", "read.dcm"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read, expected = (list(codecs.frames(dcmread(BytesIO(Path(path).read_bytes())))) for path in (tmp_path / "read.dcm", source))
    assert all(np.array_equal(one, other) for (one, _), (other, _) in zip(read, expected, strict=True))
