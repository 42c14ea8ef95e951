"""Storage commitment and the spool in `channels.yaml`: what it means, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import Checked, check_config
from broker.connectors import registry
from broker.engine.commitment import Inquiry, terms_of
from broker.spec import Capacity
from tests.config.conftest import POINTER

ROUTE = "description: Forwards.\naccept: PatientID exists\nto:\n  - send: archive\n"
PEERS = '{CT1: {from: 10.1.3.0/24, host: 10.1.3.7, port: 104}, MR1: {}, XR1: refuse, "*": {from: 127.0.0.1}}'


def checked(
    folder: Path, *, peers: str = PEERS, listener: str = "services: [store, commitment]", archive: str = "commitment: true", more: str = ""
) -> Checked:
    text = f"""version: 1
site: {{authority: HOSP}}
listeners:
  modalities:
    dicom: {{port: 11112, ae_title: BROKER, peers: {peers}, {listener}}}
destinations:
  archive:
    dicom: {{host: 127.0.0.1, port: 4242, ae_title: ARCHIVE, {archive}}}
channels:
  images: {{from: modalities, route: images.yaml}}
{more}"""
    (folder / "channels.yaml").write_text(text + POINTER)
    (folder / "images.yaml").write_text(ROUTE + POINTER)
    return check_config(folder / "channels.yaml", {}, registry)


def told(found: Checked) -> list[str]:
    return [f"{one.where}: {one.what}" for one in found.problems]


def test_a_peer_with_an_address_has_a_queue_and_all_others_have_one_together(tmp_path: Path) -> None:
    config = checked(tmp_path).config
    assert config is not None
    assert [one.name for one in config.queues] == ["archive", "modalities.CT1", "modalities.*"]
    own, others = config.callbacks
    address = {"host": "10.1.3.7", "port": 104, "tls": None, "identity": None}
    assert (own.settings["addresses"], own.settings["ae_title"]) == ({"CT1": address}, "BROKER")
    assert others.settings["addresses"] == own.settings["addresses"]
    assert registry.where(own.settings) == "10.1.3.7:104"
    assert registry.where(others.settings) == "over the association that asked"
    service = terms_of(config).services["modalities"]
    assert (service.by_archive, service.within, service.queues, service.queue) == (
        True,
        86400.0,
        {"CT1": "modalities.CT1"},
        "modalities.*",
    )
    assert terms_of(config).inquiries == {"archive": Inquiry(60.0, 500, 21600.0, 1)}


def test_a_listener_that_does_not_serve_it_calls_nobody_back(tmp_path: Path) -> None:
    config = checked(tmp_path, listener="services: [store]", archive="commitment: false").config
    assert config is not None
    assert (config.queues, terms_of(config).services, terms_of(config).inquiries) == (config.destinations, {}, {})


@pytest.mark.parametrize("archive", ["commitment: false", "linger: 1s"])
def test_archives_must_be_asked_when_they_decide(tmp_path: Path, archive: str) -> None:
    problem = "listeners.modalities.dicom.services: storage commitment is given by archives, and no destination is asked for it"
    assert told(checked(tmp_path, archive=archive)) == [problem]
    assert told(checked(tmp_path, archive=archive, listener="services: [store, commitment], commitment: {by: spool}")) == []


def test_an_archive_that_nobody_listens_to_is_a_warning(tmp_path: Path) -> None:
    found = checked(tmp_path, listener="services: [store]")
    assert found.config is not None
    assert ["no DICOM listener takes the reports" in one.what for one in found.warnings] == [True]


@pytest.mark.parametrize(
    ("peer", "what"),
    [
        ("{host: 10.1.3.7}", "host and port go together"),
        ("{port: 104}", "host and port go together"),
        ("{host: 7, port: 104}", "write a host name or an address"),
        ("{host: a, port: 0}", "write a number from 1 to 65535"),
        ("{host: a, port: true}", "write a number from 1 to 65535"),
    ],
)
def test_where_a_peer_is_called_back_must_make_sense(tmp_path: Path, peer: str, what: str) -> None:
    found = checked(tmp_path, peers=f"{{CT1: {peer}}}")
    assert any(what in one for one in told(found)), told(found)


@pytest.mark.parametrize(
    ("archive", "what"),
    [
        ("commitment: yes please", "true or false or a mapping is needed here, not text"),
        ("commitment: {quiet: 5}", "text is needed here, not an integer"),
        ("commitment: {silence: 1m}", "unknown key silence"),
    ],
)
def test_a_mistake_in_what_an_archive_is_asked_has_its_place(tmp_path: Path, archive: str, what: str) -> None:
    [one] = told(checked(tmp_path, archive=archive))
    assert one.startswith("destinations.archive.dicom.commitment")
    assert what in one


def test_without_a_word_the_spool_has_its_defaults(tmp_path: Path) -> None:
    config = checked(tmp_path).config
    assert config is not None
    spool = config.spool
    assert (spool.budget, spool.free, spool.low, spool.high) == (Capacity(share=0.8), Capacity(size=1 << 30), 0.8, 0.95)
    assert (spool.keep, spool.age, spool.unfinished, spool.urgent) == (7 * 86400.0, None, 30 * 86400.0, ())


def test_what_is_said_of_the_spool_counts(tmp_path: Path) -> None:
    config = checked(tmp_path, more="spool: {budget: 1.5 TB, low: 60%, high: 70.5%, free: 5%, age: 90d, urgent: CT_ER}\n").config
    assert config is not None
    spool = config.spool
    assert (spool.budget.of(1), spool.low, spool.high, spool.free.of(1000)) == (int(1.5 * 1024**4), 0.6, 0.705, 50)
    assert (spool.age, spool.urgent) == (90 * 86400.0, ("CT_ER",))


@pytest.mark.parametrize(
    ("spool", "where", "what"),
    [
        ("{budget: 200}", "spool.budget", "text is needed here"),
        ("{budget: much}", "spool.budget", "much is not as it must be"),
        ("{high: 0.9}", "spool.high", "text is needed here"),
        ("{high: 120%}", "spool.high", "120% is not as it must be"),
        ("{size: 1 GB}", "spool.size", "unknown key size"),
        ("{low: 95%, high: 90%}", "spool.low", "above high"),
    ],
)
def test_a_mistake_in_the_spool_has_its_place(tmp_path: Path, spool: str, where: str, what: str) -> None:
    [one] = told(checked(tmp_path, more=f"spool: {spool}\n"))
    assert one.startswith(where)
    assert what in one
