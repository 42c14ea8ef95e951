"""Numbers in the settings of DICOM listeners and destinations that nothing would work with."""

from __future__ import annotations

from typing import Any

import pytest

from broker.connectors.dicom import DESTINATION, LISTENER, check_listener, check_sending

PEER = {"host": "127.0.0.1", "port": 104, "ae_title": "ARCHIVE"}


@pytest.mark.parametrize(
    ("more", "key"),
    [({"max_pdu": "10 B"}, "max_pdu"), ({"max_pdu": "1 GB"}, "max_pdu"), ({"idle": "0s"}, "idle"), ({"artim": "0s"}, "artim")],
)
def test_a_listener(more: dict[str, Any], key: str) -> None:
    assert [one for one, _ in check_listener(LISTENER.read({"port": 104, **more}))] == [key]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"max_pdu": "10 B"}, "max_pdu: write 4 KB to 16 MB"),
        ({"bandwidth": "0 B"}, "bandwidth: nothing would ever leave: leave it out where there is no limit"),
        ({"commitment": {"batch": 0}}, "commitment: batch: at least one is needed"),
        ({"commitment": {"resend": -1}}, "commitment: resend: write 0 or more"),
    ],
)
def test_a_destination(more: dict[str, Any], told: str) -> None:
    assert [f"{key}: {what}" for key, what in check_sending(DESTINATION.read({**PEER, **more}))] == [told]


def test_what_is_in_order() -> None:
    assert list(check_listener(LISTENER.read({"port": 104, "max_pdu": "4 KB"}))) == []
    assert list(check_sending(DESTINATION.read({**PEER, "max_pdu": "16 MB", "bandwidth": "1 KB", "commitment": True}))) == []
