"""The provider groups known by name (providers.toml), and how a recipient domain is recognised as one of theirs.

A domain that belongs to none of them forms a *site* with all domains that share its best MX hosts: they are one receiver,
whatever they are called.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from delivery.models.provider import GroupKind
from delivery.shaping.windows import Rate
from delivery.transport.tls_policy import TlsMode

_DATA = Path(__file__).with_name("providers.toml")
_LONGEST_KEY = 255
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How a path may approach its group. Every rate holds; ``daily`` None: as many as come."""

    connections: int
    messages_per_connection: int
    tls: str
    messages: tuple[Rate, ...] = ()
    new_connections: tuple[Rate, ...] = ()
    daily: int | None = None
    takes_bare_addresses: bool = False

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Limits:
        """From the data file, or from an operator's overrides on top of it. Raises ValueError with a sentence."""
        return cls(
            connections=_positive("connections", values["connections"]),
            messages_per_connection=_positive("messages_per_connection", values["messages_per_connection"]),
            tls=TlsMode(values["tls"]).value,
            messages=tuple(map(Rate.parse, values["messages"])),
            new_connections=tuple(map(Rate.parse, values["new_connections"])),
            daily=None if values.get("daily") is None else _positive("daily", values["daily"]),
            takes_bare_addresses=bool(values.get("takes_bare_addresses", False)),
        )

    def overridden(self, overrides: Mapping[str, Any]) -> Limits:
        """With an operator's overrides, as ``values`` names them. Raises ValueError with a sentence."""
        return Limits.read({**self.values(), **overrides}) if overrides else self

    def shared(self, share: float) -> Limits:
        """What an address gets of them whose weight is a ``share`` (0 to 1) of the heaviest of its pool; never nothing."""
        if share >= 1:
            return self
        return replace(
            self,
            connections=max(1, int(self.connections * share)),
            messages=tuple(rate.scaled(share) for rate in self.messages),
            new_connections=tuple(rate.scaled(share) for rate in self.new_connections),
            daily=None if self.daily is None else max(1, int(self.daily * share)),
        )

    def capped(self, cap: Rate) -> Limits:
        """With one more limit, which only ever makes them less: the stage of a warm-up."""
        if cap.seconds == _DAY_S:
            return replace(self, daily=cap.count if self.daily is None else min(self.daily, cap.count))
        return replace(self, messages=(*self.messages, cap))

    def values(self) -> dict[str, Any]:
        """As the data file has them, and as people read and set them."""
        return {
            "connections": self.connections,
            "messages_per_connection": self.messages_per_connection,
            "messages": [str(rate) for rate in self.messages],
            "new_connections": [str(rate) for rate in self.new_connections],
            "daily": self.daily,
            "tls": self.tls,
            "takes_bare_addresses": self.takes_bare_addresses,
        }


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Provider:
    key: str
    title: str
    mx: tuple[str, ...]
    domains: tuple[str, ...]
    limits: Limits
    has_feedback_by_domain: bool = False

    def has_domain(self, domain: str) -> bool:
        return any(domain.endswith(own) if own.startswith(".") else domain == own for own in self.domains)

    def has_hosts(self, hosts: Sequence[str]) -> bool:
        return bool(self.mx) and all(any(host == own or host.endswith(own) for own in self.mx) for host in hosts)


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a provider group is called: the key of its row, its kind and what people read."""

    key: str
    kind: str
    title: str


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


@cache
def providers() -> tuple[Provider, ...]:
    default = _data()["default"]
    return tuple(
        Provider(
            key=group["key"],
            title=group["title"],
            mx=tuple(group.get("mx", ())),
            domains=tuple(group.get("domains", ())),
            limits=Limits.read({**default, **group}),
            has_feedback_by_domain=bool(group.get("feedback_by_domain", False)),
        )
        for group in _data()["group"]
    )


def recognise(domain: str, hosts: Sequence[str]) -> Recognised:
    """The group of a domain whose best MX hosts are ``hosts`` (sorted, lower case)."""
    for provider in providers():
        if provider.has_domain(domain) or provider.has_hosts(hosts):
            return Recognised(provider.key, GroupKind.PROVIDER, provider.title)
    key = "site:" + ",".join(hosts)
    if len(key) > _LONGEST_KEY:
        key = "site:" + hashlib.sha256(key.encode()).hexdigest()
    return Recognised(key, GroupKind.SITE, hosts[0][:_LONGEST_KEY])


@cache
def has_feedback_by_domain(key: str) -> bool:
    """Whether the group tells complaints to the owner of a signing domain (or counts them by it)."""
    return any(provider.key == key and provider.has_feedback_by_domain for provider in providers())


def default_limits(key: str, kind: str) -> Limits:
    for provider in providers():
        if provider.key == key:
            return provider.limits
    return Limits.read(_data()["smarthost"] if kind == GroupKind.SMARTHOST else _data()["default"])
