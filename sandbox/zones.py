"""The DNS data of the sandbox: the records of its behaviours, and those of `$RELAY_VAR/sandbox/zones/*.json`.

A file holds a list of `{"name", "type", "value", "ttl"}`. It is read again when it has changed; a file that cannot be
understood is logged, and what it said before stays in force. We are authoritative for the apex of every file: the
file's own name (`acme.example.json`) where its records lie below it, otherwise the last two labels of each record.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from sandbox.layout import NAME_SERVER, ZoneFault
from sandbox.scenarios import ROOT_ZONE, DnsFault, ZoneRecord

LOG = logging.getLogger("sandbox.dns")

NEGATIVE_TTL_S = 5
_LOOK_EVERY_S = 0.2
_BUILT_IN_APEXES = (ROOT_ZONE, "64.127.in-addr.arpa")
_MAX_CNAMES = 8


class ZoneFileError(ValueError):
    """A record cannot be served; the text says which one and why."""


@dataclass(slots=True)
class Answer:
    """What the data say about a question. `is_ours` False: we are not authoritative for the name."""

    is_ours: bool = True
    exists: bool = True
    rrsets: list[dns.rrset.RRset] = field(default_factory=list)
    authority: list[dns.rrset.RRset] = field(default_factory=list)
    fault: DnsFault | None = None
    delay_s: float = 0.0


@dataclass(slots=True)
class _Data:
    """Records by name and type; `names` also has the empty non-terminals above them."""

    apexes: set[dns.name.Name] = field(default_factory=set)
    rrsets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = field(default_factory=dict)
    names: set[dns.name.Name] = field(default_factory=set)

    def add(self, record: ZoneRecord) -> None:
        name, rrset = _read_record(record)
        if (known := self.rrsets.get((name, rrset.rdtype))) is not None:
            known.add(rrset[0], record.ttl)
        else:
            self.rrsets[name, rrset.rdtype] = rrset
        while name != dns.name.root and name not in self.names:
            self.names.add(name)
            name = name.parent()

    def add_apex(self, name: dns.name.Name) -> None:
        self.apexes.add(name)
        self.names.add(name)

    def types_at(self, name: dns.name.Name) -> Iterator[dns.rrset.RRset]:
        return (rrset for (owner, _), rrset in self.rrsets.items() if owner == name)


class Zones:
    """Looks names up; cheap enough to be asked for every query."""

    def __init__(
        self, records: Iterable[ZoneRecord] = (), *, faults: Iterable[ZoneFault] = (), folder: Path | None = None
    ) -> None:
        self._built_in = tuple(records)
        self._faults = {_read_name(fault.domain): fault for fault in faults}
        self._folder = folder
        self._files: dict[Path, tuple[tuple[int, int], tuple[ZoneRecord, ...]]] = {}
        self._looked_at = 0.0
        self.version = 0
        self._data = self._build()

    def lookup(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Answer:
        self._refresh()
        name = dns.name.Name([label.lower() for label in name.labels])
        answer = Answer()
        if (fault := self._fault_of(name)) is not None:
            answer.fault, answer.delay_s = fault.fault, fault.delay_s
        apex = self._apex_of(name)
        if apex is None:
            answer.is_ours = False
            return answer
        for _ in range(_MAX_CNAMES):
            if not (owner := self._existing(name, apex)):
                answer.exists = False
                break
            if found := self._rrsets_at(owner, name, rdtype, apex):
                answer.rrsets += found
                return answer
            alias = self._data.rrsets.get((owner, dns.rdatatype.CNAME))
            if alias is None:
                break
            answer.rrsets.append(_renamed(alias, name))
            name = alias[0].target
            apex = self._apex_of(name)
            if apex is None:
                return answer
        answer.authority.append(_soa(apex, self.version))
        return answer

    def texts(self, name: str) -> list[str]:
        """The TXT records at a name, CNAMEs followed; [] where there are none."""
        try:
            answer = self.lookup(dns.name.from_text(name), dns.rdatatype.TXT)
        except dns.exception.DNSException:
            return []
        rdatas = [rdata for rrset in answer.rrsets if rrset.rdtype == dns.rdatatype.TXT for rdata in rrset]
        return [b"".join(rdata.strings).decode("utf-8", "replace") for rdata in rdatas]

    def _fault_of(self, name: dns.name.Name) -> ZoneFault | None:
        while name != dns.name.root:
            if name in self._faults:
                return self._faults[name]
            name = name.parent()
        return None

    def _apex_of(self, name: dns.name.Name) -> dns.name.Name | None:
        while name != dns.name.root:
            if name in self._data.apexes:
                return name
            name = name.parent()
        # A parent of a name we serve exists, although nothing is said about it.
        return None

    def _existing(self, name: dns.name.Name, apex: dns.name.Name) -> dns.name.Name | None:
        """The owner that answers for a name: itself, or a wildcard at the closest encloser (RFC 4592)."""
        if name in self._data.names:
            return name
        while name != apex:
            name = name.parent()
            if name in self._data.names:
                wildcard = dns.name.Name((b"*", *name.labels))
                return wildcard if wildcard in self._data.names else None
        return None

    def _rrsets_at(
        self, owner: dns.name.Name, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, apex: dns.name.Name
    ) -> list[dns.rrset.RRset]:
        if rdtype == dns.rdatatype.ANY:
            return [_renamed(rrset, name) for rrset in self._data.types_at(owner)]
        if (rrset := self._data.rrsets.get((owner, rdtype))) is not None:
            return [_renamed(rrset, name)]
        if owner == apex and rdtype == dns.rdatatype.SOA:
            return [_soa(apex, self.version)]
        if owner == apex and rdtype == dns.rdatatype.NS:
            return [dns.rrset.from_text(apex, NEGATIVE_TTL_S, "IN", "NS", f"{NAME_SERVER}.")]
        return []

    def _refresh(self) -> None:
        if self._folder is None or time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        if self._read_files():
            self.version += 1
            self._data = self._build()

    def _read_files(self) -> bool:
        assert self._folder is not None
        has_changed = False
        present = set()
        for file in sorted(self._folder.glob("*.json")):
            try:
                status = file.stat()
                present.add(file)
                stamp = (status.st_mtime_ns, status.st_size)
                if file in self._files and self._files[file][0] == stamp:
                    continue
                records = self._files[file][1] if file in self._files else ()
                self._files[file] = (stamp, records)
                self._files[file] = (stamp, read_zone_file(file))
                has_changed = True
            except FileNotFoundError:
                continue
            except (OSError, ZoneFileError) as error:
                LOG.warning("zone file %s not taken over: %s", file, error)
        for file in self._files.keys() - present:
            del self._files[file]
            has_changed = True
        return has_changed

    def _build(self) -> _Data:
        data = _Data()
        for apex in _BUILT_IN_APEXES:
            data.add_apex(_read_name(apex))
        for record in self._built_in:
            data.add(record)
        for file, (_, records) in self._files.items():
            for record in records:
                data.add(record)
                data.add_apex(_apex_for(record, file.stem))
        return data


def read_zone_file(file: Path) -> tuple[ZoneRecord, ...]:
    """All records of a file, checked; raises `ZoneFileError`."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZoneFileError(f"not valid JSON: {error}") from error
    if not isinstance(entries, list):
        raise ZoneFileError("a list of records is expected")
    records = []
    for entry in entries:
        if not isinstance(entry, dict) or not {"name", "type", "value"} <= entry.keys():
            raise ZoneFileError(f"a record has name, type and value: {entry!r}")
        ttl = entry.get("ttl") or NEGATIVE_TTL_S
        if not isinstance(ttl, int):
            raise ZoneFileError(f"the ttl is a number of seconds: {entry!r}")
        record = ZoneRecord(str(entry["name"]), str(entry["type"]).upper(), str(entry["value"]), ttl)
        _read_record(record)
        records.append(record)
    return tuple(records)


def _read_name(text: str) -> dns.name.Name:
    name = dns.name.from_text(text)
    return dns.name.Name([label.lower() for label in name.labels])


def _read_record(record: ZoneRecord) -> tuple[dns.name.Name, dns.rrset.RRset]:
    try:
        name = _read_name(record.name)
        rdtype = dns.rdatatype.from_text(record.type)
        value = record.value
        if rdtype == dns.rdatatype.TXT and not value.startswith('"'):
            value = _quoted_strings(value)
        rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, value, origin=dns.name.root, relativize=False)
        return name, dns.rrset.from_rdata(name, record.ttl, rdata)
    except (dns.exception.DNSException, ValueError) as error:
        raise ZoneFileError(f"{record.name} {record.type} {record.value!r}: {error}") from error


def _quoted_strings(text: str) -> str:
    """RFC 1035 §3.3: a character-string has at most 255 octets, so a longer text becomes several."""
    octets = text.encode()
    pieces = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(_escaped(octet) for octet in piece) + '"' for piece in pieces)


def _escaped(octet: int) -> str:
    character = chr(octet)
    if character in '"\\':
        return "\\" + character
    return character if 32 <= octet < 127 else f"\\{octet:03d}"


def _apex_for(record: ZoneRecord, file_stem: str) -> dns.name.Name:
    name = _read_name(record.name)
    try:
        named = _read_name(file_stem)
    except dns.exception.DNSException:
        named = None
    if named is not None and len(named) > 2 and name.is_subdomain(named):
        return named
    depth = 3 if name.is_subdomain(_read_name("arpa")) else 2
    return dns.name.Name(name.labels[-(depth + 1) :])


def _renamed(rrset: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    if rrset.name == name:
        return rrset
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))


def _soa(apex: dns.name.Name, serial: int) -> dns.rrset.RRset:
    text = f"{NAME_SERVER}. hostmaster.{ROOT_ZONE}. {serial + 1} 60 60 3600 {NEGATIVE_TTL_S}"
    return dns.rrset.from_text(apex, NEGATIVE_TTL_S, "IN", "SOA", text)
