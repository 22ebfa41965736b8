from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from delivery.transport.guard import DestinationGuard


@pytest.mark.parametrize("address", ["198.41.0.4", "8.8.8.8", "2001:500:2::c", "2a00:1450::1", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address):
    assert DestinationGuard().is_allowed(address)
    assert DestinationGuard().is_allowed(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.0.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2a00:1450::1%eth0",
        "ff02::1",
        "not an address",
        "0x7f.1",
        "127.1",
        "",
    ],
)
def test_everything_else_is_refused(address):
    assert not DestinationGuard().is_allowed(address)


def test_an_allow_listed_network_is_allowed_and_nothing_beside_it():
    guard = DestinationGuard([ip_network("127.64.0.0/16"), ip_network("fd12::/16")])

    assert guard.is_allowed("127.64.255.1")
    assert guard.is_allowed("fd12::1")
    assert not guard.is_allowed("127.65.0.1")
    assert not guard.is_allowed("::ffff:127.64.0.1")


def test_own_addresses_are_refused_unless_allow_listed():
    own = [ip_address("198.41.0.4")]

    assert not DestinationGuard(own=own).is_allowed("198.41.0.4")
    assert DestinationGuard([ip_network("198.41.0.4/32")], own=own).is_allowed("198.41.0.4")
