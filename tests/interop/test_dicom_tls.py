"""DICOM in TLS, and who is at the other end: DCMTK, pynetdicom and OpenSSL as peers, over loopback sockets."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from broker.connectors.dicom import DicomDestination
from broker.connectors.dicom_callback import CallBack
from broker.connectors.dicom_commitment import Lines
from broker.connectors.dicom_peers import address_of
from broker.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, Reference, Report, report
from broker.dicom.dataset import encode
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.errors import Retry
from broker.model import Delivery
from broker.obs.metrics import Metrics
from broker.security.tls import identifiers
from broker.store.spool import Spool
from tests.connectors.dicom_shell import delivery, destination_settings, keep, quiet, spool
from tests.dicom.cores import CT, EXPLICIT, VERIFICATION
from tests.dicom.objects import ct, part10, write
from tests.interop.test_dicom_dcmtk import Program, Setting, run
from tests.peers import free_ports
from tests.security.certificates import Authority, Pair

ANYONE = {"from": "127.0.0.1"}


class Keys:
    """An authority, and who has a certificate of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority, self.strangers = Authority(folder), Authority(folder, "strangers-ca")
        self.broker = self.authority.issue("broker", "127.0.0.1", "localhost")
        self.ct1 = self.authority.issue("ct1.example.org", "ct1.example.org")
        self.other = self.authority.issue("other.example.org", "other.example.org")
        self.stranger = self.strangers.issue("stranger", "127.0.0.1")

    def own(self, **more: Any) -> dict[str, Any]:
        """Return the `tls` settings of the broker."""
        return {"certificate": self.broker.certificate, "key": self.broker.key, "authorities": self.authority.file, **more}

    def dcmtk(self, pair: Pair | None) -> list[str]:
        """Return the options of a DCMTK program that has this certificate."""
        mine = ["+tls", pair.key, pair.certificate] if pair else ["+tla"]
        return [*mine, "+cf", self.authority.file]

    def pynetdicom(self, pair: Pair) -> ssl.SSLContext:
        """Return the context of a requestor that has this certificate."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(pair.certificate, pair.key)
        return context


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.fixture(name="reactor")
def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest.fixture
def serve(reactor: Any, tmp_path: Path) -> Iterator[Callable[..., Setting]]:
    made: list[Setting] = []

    def start(**settings: Any) -> Setting:
        made.append(Setting(reactor, tmp_path, **settings))
        made[-1].listener.start()
        return made[-1]

    yield start
    for setting in made:
        pytest_twisted.blockon(setting.listener.stop())


# a peer that is called back


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("own", "told"), [(True, True), (False, False)])
async def test_a_peer_is_called_back_in_tls(reactor: Any, keys: Keys, own: bool, told: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=keys.authority.file)
    context.load_cert_chain(keys.other.certificate, keys.other.key)
    context.verify_mode = ssl.CERT_REQUIRED
    here, reports, [port] = AE(ae_title="CT9"), [], free_ports(1)
    here.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: (reports.append(event.event_information), (0, None))[1])]
    server = here.start_server(("127.0.0.1", port), block=False, ssl_context=context, evt_handlers=handlers)
    secrets = keys.own(name="other.example.org") if own else {"authorities": keys.authority.file, "verify": "chain"}
    addresses = {"CT9": address_of({"host": "127.0.0.1", "port": port, "tls": secrets})}
    settings = {"listener": "modalities", "ae_title": "BROKER", "answer": "new", "addresses": addresses}
    queue = CallBack("modalities.CT9", settings, reactor, Lines(), Metrics(), quiet()[0])
    said = encode(report(Report("2.25.1", (Reference(CT, "1.2.3"),))), EXPLICIT)
    event = encode_request(DimseRequest("N-EVENT-REPORT", PUSH_MODEL, PUSH_INSTANCE, said, 1))
    sending = queue.send(Delivery(1, 1, queue.name, "CT9", "modalities", "N-EVENT-REPORT", event, "2.25.1", "A1", 0))
    try:
        if told:
            assert await sending == "0x0000"
        else:
            with pytest.raises(Retry):
                await sending
    finally:
        await deferToThread(server.shutdown)
    assert [one.TransactionUID for one in reports] == ["2.25.1"] * told


# as acceptor


@pytest_twisted.ensureDeferred
async def test_objects_of_storescu_come_through_tls(reactor: Any, serve: Callable[..., Setting], keys: Keys, tmp_path: Path) -> None:
    setting = serve(tls=keys.own(), peers={"CT1": {**ANYONE, "certificate": "ct1.example.org"}, "*": "refuse"})
    ds = ct(512)
    file = write(tmp_path / "a.dcm", ds)
    program = run(reactor, "storescu", "-aet", "CT1", "-aec", "BROKER", *keys.dcmtk(keys.ct1), *setting.address, str(file))
    assert await program.ended == 0, program.output
    [(caller, spooled)] = setting.intake.stored
    assert caller.ae_title == "CT1"
    assert dcmread(setting.spool.path(spooled.name)).PixelData == ds.PixelData


@pytest_twisted.ensureDeferred
async def test_the_certificate_belongs_to_the_ae_title(reactor: Any, serve: Callable[..., Setting], keys: Keys) -> None:
    setting = serve(tls=keys.own(), peers={"CT1": {**ANYONE, "certificate": "ct1.example.org"}, "*": "refuse"})
    program = run(reactor, "echoscu", "-v", "-aet", "CT1", "-aec", "BROKER", *keys.dcmtk(keys.other), *setting.address)
    assert await program.ended != 0
    assert b"Calling AE Title Not Recognized" in program.output
    assert setting.sample("associations_rejected_total", listener="modalities", reason="certificate not that of the calling AE title") == 1


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_is_as_good_as_a_name(reactor: Any, serve: Callable[..., Setting], keys: Keys) -> None:
    from cryptography import x509

    [printed] = [one for one in identifiers(x509.load_pem_x509_certificate(Path(keys.ct1.certificate).read_bytes())) if "sha256" in one]
    spelled = "SHA256:" + ":".join(printed[7:][at : at + 2].upper() for at in range(0, 64, 2))
    setting = serve(tls=keys.own(), peers={"CT1": {**ANYONE, "certificate": [spelled]}})
    for pair, code in ((keys.ct1, True), (keys.other, False)):
        program = run(reactor, "echoscu", "-aet", "CT1", "-aec", "BROKER", *keys.dcmtk(pair), *setting.address)
        assert (await program.ended == 0) is code


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("who", ["nobody", "stranger", "plain"])
async def test_who_shows_no_certificate_of_ours_is_not_heard(reactor: Any, serve: Callable[..., Setting], keys: Keys, who: str) -> None:
    setting = serve(tls=keys.own())
    options = {"nobody": keys.dcmtk(None), "stranger": keys.dcmtk(keys.stranger), "plain": []}[who]
    program = run(reactor, "echoscu", "-to", "5", "-aec", "BROKER", *options, *setting.address)
    assert await program.ended != 0
    assert setting.sample("associations_accepted_total", listener="modalities") == 0
    assert setting.sample("protocol_errors_total", listener="modalities", fault="tls") == 1


@pytest_twisted.ensureDeferred
async def test_a_listener_that_asks_for_no_certificate_takes_everyone(reactor: Any, serve: Callable[..., Setting], keys: Keys) -> None:
    setting = serve(tls={"certificate": keys.broker.certificate, "key": keys.broker.key})
    program = run(reactor, "echoscu", "-aec", "BROKER", *keys.dcmtk(None), *setting.address)
    assert await program.ended == 0, program.output


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "good"),
    [
        (["-tls1_3"], True),
        (["-tls1_2"], True),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], False),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA"], False),
        (["-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"], False),
    ],
)
async def test_old_versions_and_weak_ciphers_are_refused(
    reactor: Any, serve: Callable[..., Setting], keys: Keys, options: list[str], good: bool
) -> None:
    setting = serve(tls=keys.own())
    mine = ["-cert", keys.ct1.certificate, "-key", keys.ct1.key, "-CAfile", keys.authority.file, "-verify_return_error"]
    program = Program()
    openssl = shutil.which("openssl")
    assert openssl
    arguments = [openssl, "s_client", "-connect", ":".join(setting.address), *mine, *options]
    program.process = reactor.spawnProcess(program, openssl, arguments, env=dict(os.environ))  # type: ignore[attr-defined]
    program.process.closeStdin()  # type: ignore[attr-defined]
    await program.ended
    assert (b"Cipher is (NONE)" not in program.output and b"Verify return code: 0" in program.output) is good, program.output


# users


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("passcode", "good"), [("4711", True), ("4712", False)])
async def test_a_user_of_dcmtk(reactor: Any, serve: Callable[..., Setting], passcode: str, good: bool) -> None:
    setting = serve(peers={"CT1": {**ANYONE, "identity": {"user": "anna", "passcode": "4711"}}})
    write(file := Path(setting.spool._path).parent / "a.dcm", ct(8))
    user = ["-usr", "anna", "-pwd", passcode, "-rsp"]
    program = run(reactor, "storescu", "-v", "-aet", "CT1", "-aec", "BROKER", *user, *setting.address, str(file))
    assert (await program.ended == 0) is good, program.output
    assert len(setting.intake.stored) == good


@pytest_twisted.ensureDeferred
async def test_a_user_of_pynetdicom_in_tls(serve: Callable[..., Setting], keys: Keys) -> None:
    setting = serve(
        tls=keys.own(), peers={"CT1": {**ANYONE, "certificate": "ct1.example.org", "identity": {"user": "anna", "passcode": "4711"}}}
    )

    def talk() -> tuple[bool, Any, int]:
        ae = AE(ae_title="CT1")
        ae.add_requested_context(VERIFICATION)
        user = UserIdentityNegotiation()
        user.user_identity_type, user.primary_field, user.secondary_field = 2, b"anna", b"4711"
        user.positive_response_requested = True
        host, port = setting.address
        secured = (keys.pynetdicom(keys.ct1), "localhost")
        association = ae.associate(host, int(port), ae_title="BROKER", ext_neg=[user], tls_args=secured)
        response, status = association.acceptor.user_identity, association.send_c_echo().Status
        association.release()
        return association.is_released, response, status

    released, response, status = await deferToThread(talk)
    assert (released, status) == (True, 0)
    assert response.server_response == b""


# as requestor


def destination(reactor: Any, port: int, kept: Spool, **settings: Any) -> DicomDestination:
    log, _ = quiet()
    return DicomDestination("archive", destination_settings(port=port, **settings), reactor, kept, Metrics(), log)


@pytest_twisted.ensureDeferred
async def test_objects_go_to_storescp_in_tls(reactor: Any, keys: Keys, tmp_path: Path) -> None:
    [port] = free_ports(1)
    (received := tmp_path / "received").mkdir()
    program = run(reactor, "storescp", *keys.dcmtk(keys.broker), "-rc", "+B", "-od", str(received), str(port))
    ds = ct(512)
    kept = spool(tmp_path)
    spooled = keep(kept, part10(ds), ds, EXPLICIT)
    peer = destination(reactor, port, kept, host="localhost", tls=keys.own(certificate=keys.ct1.certificate, key=keys.ct1.key))
    try:
        await until_there(reactor, peer)
        assert await peer.send(delivery(spooled)) == "0x0000"
        await peer.close()
    finally:
        program.process.signalProcess("TERM")  # type: ignore[attr-defined]
        await program.ended
    [file] = list(received.iterdir())
    assert dcmread(file).PixelData == ds.PixelData


async def until_there(reactor: Any, peer: DicomDestination) -> None:
    """Echo until the peer answers, at most 100 times."""
    for _ in range(100):
        try:
            await peer.echo()
        except Retry:
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.05, pause.callback, None)
            await pause
        else:
            return
    raise AssertionError("the peer never answered")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "certificate verify failed"),
        ({"name": "archive.example.org"}, "certificate verify failed|not for its name"),
        ({"verify": "none", "authorities": None}, ""),
    ],
)
async def test_the_peer_must_be_who_it_should_be(
    reactor: Any, serve: Callable[..., Setting], keys: Keys, settings: dict[str, Any], why: str
) -> None:
    own = keys.stranger if "name" not in settings else keys.broker
    setting = serve(tls={"certificate": own.certificate, "key": own.key})
    secured = {"authorities": keys.authority.file, **settings}
    peer = destination(reactor, int(setting.address[1]), setting.spool, ae_title="BROKER", tls=secured)
    if why:
        with pytest.raises(Retry, match=f"no TLS: .*({why})"):
            await peer.echo()
    else:
        await peer.echo()
    assert setting.sample("associations_accepted_total", listener="modalities") == (not why)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("passcode", "good"), [("4711", True), ("wrong", False)])
async def test_the_broker_says_who_it_is(
    reactor: Any, serve: Callable[..., Setting], keys: Keys, tmp_path: Path, passcode: str, good: bool
) -> None:
    setting = serve(tls=keys.own(), peers={"BROKER": {**ANYONE, "identity": {"user": "broker", "passcode": "4711"}}})
    tls = keys.own(certificate=keys.ct1.certificate, key=keys.ct1.key)
    identity = {"user": "broker", "passcode": passcode}
    kept = spool(tmp_path / "out")
    peer = destination(reactor, int(setting.address[1]), kept, ae_title="BROKER", tls=tls, identity=identity)
    ds = ct(8)
    if good:
        assert await peer.send(delivery(keep(kept, part10(ds), ds, EXPLICIT))) == "0x0000"
    else:
        with pytest.raises(Retry, match="rejected"):
            await peer.echo()
    await peer.close()
    assert [spooled.sop_class for _, spooled in setting.intake.stored] == ([CT] if good else [])


@pytest_twisted.ensureDeferred
async def test_a_peer_that_offers_no_verification_is_there_all_the_same(reactor: Any, tmp_path: Path) -> None:
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(CT)
    [port] = free_ports(1)
    peer = destination(reactor, port, spool(tmp_path))
    with pytest.raises(Retry, match="cannot connect"):
        await peer.echo()
    server = ae.start_server(("127.0.0.1", port), block=False)
    try:
        await peer.echo()
    finally:
        await deferToThread(server.shutdown)
