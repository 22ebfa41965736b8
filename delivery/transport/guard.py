"""Which addresses mail may be delivered to: none inside our own network, whatever a stranger's DNS says.

A recipient's domain is chosen by a customer and its MX hosts by anybody, so without this guard a mail could make us
speak to a database on loopback or to a cloud's metadata service. Only addresses that IANA gave out for use between
networks are allowed, and forms that wrap an IPv4 address in an IPv6 one are judged by what they lead to.
Operators can allow-list networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# IANA IPv4 special-purpose address registry: everything that is not globally reachable, and multicast.
_REFUSED_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # The wire server of Azure: a public address that answers inside virtual machines only.
        "168.63.129.16/32",
    )
)
# Everything outside this is loopback, link-local, unique local, multicast, IPv4-mapped or not given out at all.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_REFUSED_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo and benchmarking among them
        "2001:db8::/32",
        "2002::/16",  # 6to4, deprecated by RFC 7526
        "3fff::/20",
    )
)
# RFC 6052: where a network has only IPv6, its resolver wraps the IPv4 addresses of the world like this.
_NAT64 = IPv6Network("64:ff9b::/96")


class DestinationGuard:
    """Allow-listed networks are allowed before anything else; `own` addresses are refused so that no mail loops."""

    def __init__(
        self, allowed: Iterable[IPv4Network | IPv6Network] = (), *, own: Iterable[IPv4Address | IPv6Address] = ()
    ) -> None:
        self._allowed = tuple(allowed)
        self._own = frozenset(own)

    def is_allowed(self, address: str | IPv4Address | IPv6Address) -> bool:
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        if any(ip in network for network in self._allowed):
            return True
        return ip not in self._own and _is_public(ip)


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _REFUSED_IPV4)
    if ip.scope_id is not None:
        return False
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFF_FFFF))
    return ip in _GLOBAL_IPV6 and not any(ip in network for network in _REFUSED_IPV6)
