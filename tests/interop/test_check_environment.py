"""`broker check --environment` visits real peers: threads, sockets, TLS and pynetdicom."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import TOP, Archive, Sink, eventually, free_ports
from tests.security.certificates import Authority


class TlsPeer:
    """Does the handshake with whoever connects, and says nothing."""

    def __init__(self, authority: Authority, name: str) -> None:
        pair = authority.issue(name, name)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)
            except OSError:
                connection.close()

    def stop(self) -> None:
        self._socket.close()


@pytest.fixture
def peers() -> Iterator[dict[str, int]]:
    dicom, hl7, nobody = free_ports(3)
    archive, sink = Archive(dicom), Sink(hl7)
    archive.start()
    sink.start()
    yield {"dicom": dicom, "hl7": hl7, "nobody": nobody}
    archive.stop()
    sink.stop()


def check(folder: Path, destinations: dict[str, Any], store: str = "sqlite") -> dict[str, Any]:
    """Return the report on a configuration with these destinations; JSON is YAML."""
    kinds = {"hl7": [], "dicom": []}  # type: dict[str, list[str]]
    for name, one in destinations.items():
        kinds["dicom" if "dicom" in one else "hl7"].append(name)
    channels = {
        kind: {"from": source, "route": f"{kind}.yaml"} for kind, source in (("hl7", "hospital"), ("dicom", "modalities")) if kinds[kind]
    }
    top = {
        "version": 1,
        "site": {"authority": "HOSP"},
        "data": str(folder / "data"),
        "store": store,
        "web": {"port": 0},
        "listeners": {"hospital": {"mllp": {"port": 0}}, "modalities": {"dicom": {"port": 0}}},
        "destinations": destinations,
        "channels": channels,
    }
    (folder / "channels.yaml").write_text(json.dumps(top))
    for kind, names in kinds.items():
        (folder / f"{kind}.yaml").write_text(json.dumps({"description": "All.", "to": [{"send": names}]}))
    command = [sys.executable, "-m", "broker", "-c", str(folder / "channels.yaml"), "check", "--stage", "environment", "--json"]
    done = subprocess.run(command, cwd=TOP, env={**os.environ}, capture_output=True, text=True, timeout=60, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (3 if report["stages"]["environment"] == "problems" else 0), done.stderr
    return report


def said(report: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {one["name"].removeprefix("destination "): (one["right"], one["says"]) for one in report["tried"]}


def test_peers_that_are_there_and_peers_that_are_not(tmp_path: Path, peers: dict[str, int]) -> None:
    report = check(
        tmp_path,
        {
            "ehr": {"mllp": {"host": "127.0.0.1", "port": peers["hl7"]}},
            "gone": {"mllp": {"host": "127.0.0.1", "port": peers["nobody"]}},
            "unknown": {"mllp": {"host": "no-such-host.invalid", "port": 1}},
            "archive": {"dicom": {"host": "127.0.0.1", "port": peers["dicom"], "ae_title": "ARCHIVE"}},
            "other": {"dicom": {"host": "127.0.0.1", "port": peers["nobody"], "ae_title": "OTHER"}},
            "deaf": {"dicom": {"host": "127.0.0.1", "port": peers["hl7"], "ae_title": "DEAF"}},  # takes connections, speaks no DICOM
        },
    )
    found = said(report)
    assert found["data folder"] == (True, f"{tmp_path / 'data'} will be made")
    assert found["ehr"] == (True, f"127.0.0.1:{peers['hl7']} takes connections")
    assert found["gone"] == (False, f"127.0.0.1:{peers['nobody']}: nobody listens there (connection refused)")
    assert found["archive"] == (True, f"ARCHIVE at 127.0.0.1:{peers['dicom']} answers C-ECHO")
    assert found["other"] == (False, f"OTHER at 127.0.0.1:{peers['nobody']}: nobody listens there (connection refused)")
    assert [found[name][0] for name in ("unknown", "deaf")] == [False, False]
    (doubt,) = [one["what"] for one in report["findings"] if one["severity"] == "warning"]
    assert doubt.startswith("ARCHIVE takes no images in RLE Lossless, JPEG Baseline")  # pynetdicom's default is uncompressed
    assert {one["stage"] for one in report["findings"]} == {"environment"}
    assert all(one["line"] > 0 and one["instead"] for one in report["findings"])


def test_a_handshake_that_fails_is_told_apart_from_a_peer_that_is_not_there(tmp_path: Path, peers: dict[str, int]) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "other-ca")
    peer = TlsPeer(authority, "127.0.0.1")
    try:
        secure = {"host": "127.0.0.1", "port": peer.port}
        found = said(
            check(
                tmp_path,
                {
                    "right": {"mllp": {**secure, "tls": {"authorities": authority.file}}},
                    "untrusted": {"mllp": {**secure, "tls": {"authorities": stranger.file}}},
                    "another": {"mllp": {**secure, "tls": {"authorities": authority.file, "name": "ehr.example.org"}}},
                    "plain": {"mllp": {"host": "127.0.0.1", "port": peers["hl7"], "tls": {"authorities": authority.file}}},
                },
            )
        )
    finally:
        peer.stop()
    assert found["right"] == (True, f"127.0.0.1:{peer.port} takes connections in TLS")
    assert not any(found[name][0] for name in ("untrusted", "another", "plain"))
    assert "certificate" in found["untrusted"][1]
    assert found["another"][1] == "no TLS: the certificate of the peer is not for its name"


def test_a_port_in_use_is_a_warning_and_a_store_that_is_not_there_a_problem(tmp_path: Path, peers: dict[str, int]) -> None:
    destinations = {"ehr": {"mllp": {"host": "127.0.0.1", "port": peers["hl7"]}}}
    report = check(tmp_path, destinations, f"postgresql://broker@127.0.0.1:{peers['nobody']}/broker")
    right, says = said(report)["store"]
    assert not right
    assert says.startswith("PostgreSQL cannot be reached")


def test_a_store_that_answers_is_right_before_it_has_tables(tmp_path: Path, peers: dict[str, int], postgres_url: str) -> None:
    destinations = {"ehr": {"mllp": {"host": "127.0.0.1", "port": peers["hl7"]}}}
    # on a machine that is busy one look may run out of its two seconds
    eventually(lambda: said(check(tmp_path, destinations, postgres_url))["store"] == (True, "PostgreSQL answers"), "PostgreSQL answers")
