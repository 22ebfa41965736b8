"""Where the behaviours live: loopback addresses for their hosts, and the records of their zones."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sandbox.scenarios import ROOT_ZONE, Behaviour, DnsFault, MxHostPlan, ScenarioError, ZoneRecord

ADDRESSES = "127.64.0.0/16"
FIRST_ADDRESS = ipaddress.IPv4Address("127.64.1.1")
NAME_SERVER = f"ns.{ROOT_ZONE}"


@dataclass(frozen=True, slots=True)
class PlacedHost:
    """A host that listens. `name` is what it greets with."""

    name: str
    address: str
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class ZoneFault:
    """How the name server misbehaves for a domain and everything below it."""

    domain: str
    fault: DnsFault | None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    hosts: tuple[PlacedHost, ...]
    records: tuple[ZoneRecord, ...]
    faults: tuple[ZoneFault, ...]


def lay_out(behaviours: Mapping[str, Behaviour], *, name_server_address: str) -> Layout:
    """Addresses are given in the order of the behaviours, so they are the same at every start."""
    addresses = _free_addresses(behaviours)
    placed: dict[str, PlacedHost] = {}
    records = [ZoneRecord(NAME_SERVER, "AAAA" if ":" in name_server_address else "A", name_server_address)]
    faults = []
    for behaviour in behaviours.values():
        if not behaviour.has_zone:
            continue
        for host in behaviour.hosts:
            address = host.address or next(addresses)
            name = _host_name(host, behaviour.domain)
            records += _records_of(host, name, address)
            if host.listens:
                if address in placed:
                    raise ScenarioError(f"behaviour {behaviour.name!r}: the address {address} is already taken.")
                placed[address] = PlacedHost(name, address, behaviours[host.behaviour] if host.behaviour else behaviour)
            if host.preference is not None:
                domains = behaviour.domains or (behaviour.domain,)
                records += [ZoneRecord(domain, "MX", f"{host.preference} {name}.") for domain in domains]
            elif host.name:
                raise ScenarioError(f'behaviour {behaviour.name!r}: a host without preference has the name "".')
        records += [_absolute(record, behaviour.domain) for record in behaviour.records]
        if behaviour.dns_fault or behaviour.dns_delay_s:
            faults.append(ZoneFault(behaviour.domain, behaviour.dns_fault, behaviour.dns_delay_s))
    return Layout(tuple(placed.values()), tuple(records), tuple(faults))


def _free_addresses(behaviours: Mapping[str, Behaviour]) -> Iterator[str]:
    taken = {host.address for behaviour in behaviours.values() for host in behaviour.hosts if host.address}
    address = FIRST_ADDRESS
    while True:
        if str(address) not in taken and address.packed[-1] not in (0, 255):
            yield str(address)
        address += 1


def _host_name(host: MxHostPlan, domain: str) -> str:
    return f"{host.name}.{domain}" if host.name else domain


def _records_of(host: MxHostPlan, name: str, address: str) -> list[ZoneRecord]:
    if not host.has_address:
        return []
    real_name = f"host-{name}" if host.is_alias else name
    records = [
        ZoneRecord(real_name, "AAAA" if ":" in address else "A", address),
        ZoneRecord(ipaddress.ip_address(address).reverse_pointer, "PTR", f"{real_name}."),
    ]
    if host.is_alias:
        records.append(ZoneRecord(name, "CNAME", f"{real_name}."))
    return records


def _absolute(record: ZoneRecord, domain: str) -> ZoneRecord:
    name = domain if record.name == "@" else f"{record.name}.{domain}"
    return ZoneRecord(name, record.type, record.value, record.ttl)
