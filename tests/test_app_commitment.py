"""Storage commitment in a broker as a whole: its queues are there, change with the configuration, and its jobs run and end."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import ensureDeferred

from broker.config.load import load
from broker.connectors import registry
from tests.memory import Reactor, made, start, stop, wait

CHANNELS = """version: 1
site: {{authority: GENHOSP}}
data: ${{BROKER_DATA}}
listeners:
  modalities:
    dicom: {{port: 11112, services: [store, commitment], peers: {peers}}}
destinations:
  archive:
    dicom: {{host: 127.0.0.1, port: 4242, ae_title: ARCHIVE, commitment: true}}
channels:
  images: {{from: modalities, route: images.yaml}}
"""
ROUTE = "description: Images go to the archive.\naccept: PatientID exists\nto:\n  - send: archive\n"


def configured(folder: Path, peers: str) -> Path:
    channels = folder / "channels.yaml"
    channels.write_text(CHANNELS.format(peers=peers))
    (folder / "images.yaml").write_text(ROUTE)
    return channels


def test_every_peer_with_an_address_has_its_queue_also_after_a_change(tmp_path: Path) -> None:
    reactor = Reactor()
    channels = configured(tmp_path, "{CT1: {host: 10.1.3.7, port: 104}}")
    broker = made(tmp_path / "data", reactor, channels)
    start(broker, reactor)
    assert set(broker.couriers.by_name) == {"archive", "modalities.CT1", "modalities.*"}
    kept = broker.couriers.by_name["archive"]
    configured(tmp_path, "{CT1: {host: 10.1.3.8, port: 104}, CT2: {host: 10.1.3.9, port: 104}}")
    new = load(channels, {"BROKER_DATA": str(tmp_path / "data")}, registry)
    before = broker.couriers.by_name["modalities.CT1"]
    wait(reactor, ensureDeferred(broker.reload._changeover.run(broker.config, new)))
    broker._configured(new)
    assert set(broker.couriers.by_name) == {"archive", "modalities.CT1", "modalities.CT2", "modalities.*"}
    assert broker.couriers.by_name["modalities.CT1"] is not before
    assert broker.couriers.by_name["archive"] is kept
    shown = wait(reactor, ensureDeferred(broker.status.status()))
    assert [(one.name, one.address) for one in shown.destinations][1:] == [
        ("modalities.CT1", "10.1.3.8:104"),
        ("modalities.CT2", "10.1.3.9:104"),
        ("modalities.*", "over the association that asked"),
    ]
    stop(broker, reactor)


def test_how_full_the_spool_is_stands_in_the_status_and_the_metrics(tmp_path: Path) -> None:
    reactor = Reactor()
    broker = made(tmp_path / "data", reactor, configured(tmp_path, "{}"))
    start(broker, reactor)
    shown = wait(reactor, ensureDeferred(broker.status.status())).spool
    assert (shown.objects, shown.size, shown.level) == (0, 0, "open")
    assert broker.metrics.registry.get_sample_value("broker_spool_room_bytes") == shown.room > 0
    stop(broker, reactor)
    assert [job._call.running for job in broker.imaging.jobs if hasattr(job, "_call")].count(True) == 0
