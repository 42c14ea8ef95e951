"""Allow-lists of network addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Addresses:
    """A set of addresses and networks, as `10.1.3.0/24`, `127.0.0.1` or `::1`."""

    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Addresses:
        """Read addresses or CIDR networks; raises ValueError naming the one that is neither."""
        return cls(tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts))

    def allows(self, host: str) -> bool:
        """Tell whether a peer's address is in the set; an IPv4 address mapped into IPv6 counts as IPv4."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self.networks)
