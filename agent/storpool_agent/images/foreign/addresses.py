# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which hosts a download may come from: the public internet, and what this host's settings name.

A command's URL must not make the host fetch from its own services or from the storage network (SSRF), so it is the
address that is judged, and the connection is made to that address: a name server cannot say something else meanwhile.
"""

import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from storpool_agent.images.foreign.reply import Refusal

Address = IPv4Address | IPv6Address
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052


class Allowed:
    """Addresses that are global, and besides: hosts by name, by address, and networks (`10.0.0.0/8`)."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for host in hosts:
            try:
                self._networks.append(ip_network(host.strip("[]"), strict=False))
            except ValueError:
                self._names.add(_canonical(host))

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """Those of the host's that may be connected to, as the resolver orders them.

        Raises Refusal (secondary-not-allowed) when there is none, OSError when the name cannot be resolved.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        good = addresses if _canonical(host) in self._names else [a for a in addresses if self._admits(ip_address(a))]
        if not good:
            raise Refusal(
                "secondary-not-allowed",
                f"{host} is {', '.join(addresses)}, which is no public address; if images may come from there, add it"
                " to web_hosts in the [secondary] section of this host's settings",
                host=host,
            )
        return good

    def _admits(self, address: Address) -> bool:
        return self._named(address) or (
            _is_public(address) and all(self._named(one) or _is_public(one) for one in _carried(address))
        )

    def _named(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _canonical(host: str) -> str:
    return host.lower().rstrip(".")


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _carried(address: Address) -> Iterator[Address]:
    """The IPv4 addresses that an IPv6 address leads to: a tunnel or a translator would go on to them."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            yield address.ipv4_mapped
        if address.sixtofour:
            yield address.sixtofour
        if address.teredo:
            yield address.teredo[1]
        if address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFF_FFFF)
