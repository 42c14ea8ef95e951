"""Allow-lists of addresses: networks, single addresses, IPv4 inside IPv6, and what is no address at all."""

from __future__ import annotations

import pytest

from broker.security.addresses import Addresses


@pytest.mark.parametrize(
    ("allowed", "host", "is_allowed"),
    [
        (["10.1.3.0/24"], "10.1.3.255", True),
        (["10.1.3.0/24"], "10.1.4.0", False),
        (["10.1.3.7/24"], "10.1.3.9", True),  # a host's address with its mask names the network
        ([" 127.0.0.1 "], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", True),
        (["::1"], "::1", True),
        (["::1"], "127.0.0.1", False),
        (["127.0.0.0/8", "::1"], "::1", True),
        ([], "127.0.0.1", False),
        (["0.0.0.0/0"], "not an address", False),
        (["0.0.0.0/0"], "", False),
    ],
)
def test_an_address_is_allowed_when_one_of_the_networks_holds_it(allowed: list[str], host: str, is_allowed: bool) -> None:
    assert Addresses.parse(allowed).allows(host) is is_allowed


@pytest.mark.parametrize("text", ["nowhere", "10.1.3.0/33", "10.1.3", ""])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text or "''"):
        Addresses.parse(["127.0.0.1", text])
