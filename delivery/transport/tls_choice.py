"""Which TLS policy applies to which hop: our own settings, or what the receiving domain asks for by MTA-STS or DANE.

A domain can only ask for more. Where a host has TLSA records they take the place of certificate authorities, also for a
domain with an MTA-STS policy (RFC 8461 §2); which hosts may be used is still what that policy says. Where our settings
switch TLS off for a provider group, nobody is asked. What applies, and what stood against a host, is noted for the
transcript; when no host is left, the reply is transient, because all of this can be put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from delivery.core.reply import Origin, Phase, Reply, made_up
from delivery.dns import DnsFailure, Resolver, TlsaRecord
from delivery.transport import dane
from delivery.transport.hops import Hop, MxHosts
from delivery.transport.mta_sts import StsMode, StsPolicies
from delivery.transport.tls_policy import TlsMode, TlsPolicy, TlsSource

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The MX hosts that may be used, and the policy for those without one of their own."""

    mx_hosts: MxHosts
    tls: TlsPolicy


class TlsChooser:
    """`sts` is None where MTA-STS is switched off; `uses_dane` needs a resolver whose validation is trusted."""

    def __init__(self, resolver: Resolver, *, sts: StsPolicies | None, uses_dane: bool, ca_file: str | None) -> None:
        self._resolver = resolver
        self._sts = sts
        self._uses_dane = uses_dane
        self._ca_file = ca_file

    async def for_domain(self, mx_hosts: MxHosts, ours: TlsPolicy, *, note: Note) -> Chosen | Reply:
        """What the domain's MTA-STS policy makes of our own one."""
        unchanged = Chosen(mx_hosts, ours)
        if self._sts is None or ours.mode is TlsMode.NONE:
            return unchanged
        policy = await self._sts.of(mx_hosts.domain, note=note)
        if policy is None or policy.mode is StsMode.NONE:
            return unchanged
        named = tuple(mx for mx in mx_hosts.hosts if policy.names(mx.host))
        others = ", ".join(mx.host for mx in mx_hosts.hosts if mx not in named)
        if policy.mode is StsMode.TESTING:
            note(f"MTA-STS policy {policy.policy_id}, testing" + (f": it does not name {others}" if others else ""))
            return unchanged
        if others:
            note(f"MTA-STS policy {policy.policy_id} does not name {others}")
        if not named:
            return _refused(f"the MTA-STS policy of {mx_hosts.domain} names none of its mail hosts")
        verified = TlsPolicy(TlsMode.VERIFIED, self._ca_file, source=TlsSource.MTA_STS)
        return Chosen(replace(mx_hosts, hosts=named), verified)

    async def for_hops(self, hops: Sequence[Hop], chosen: Chosen, *, note: Note) -> list[Hop] | Reply:
        """The hops with the policies of their own that DANE gives them, without those that must not be used now."""
        if not (self._uses_dane and chosen.mx_hosts.is_secure) or chosen.tls.mode is TlsMode.NONE:
            return list(hops)
        hosts = list(dict.fromkeys((hop.host, hop.port) for hop in hops))
        answers = await asyncio.gather(*(self._tlsa(host, port) for host, port in hosts))
        by_host = dict(zip(hosts, answers, strict=True))
        secured: list[Hop] = []
        for hop in hops:
            answer = by_host[hop.host, hop.port]
            if isinstance(answer, DnsFailure):
                note(f"{hop} is not used: its TLSA records could not be looked up ({answer.kind.value})")
            else:
                secured.append(_with_records(hop, *answer, chosen))
        if not secured:
            return _refused(f"the TLSA records of the mail hosts of {chosen.mx_hosts.domain} could not be looked up")
        return secured

    async def _tlsa(self, host: str, port: int) -> tuple[str, list[TlsaRecord]] | DnsFailure:
        try:
            return await dane.find_tlsa(host, port, self._resolver)
        except DnsFailure as failure:
            return failure


def _with_records(hop: Hop, name: str, records: list[TlsaRecord], chosen: Chosen) -> Hop:
    if not records:
        return hop
    tlsa = dane.usable(records)
    if not tlsa and chosen.tls.mode is TlsMode.VERIFIED:
        return hop
    names = (hop.host, chosen.mx_hosts.domain) if tlsa else ()
    policy = TlsPolicy(TlsMode.REQUIRED, tlsa=tlsa, names=names, source=TlsSource.DANE)
    return replace(hop, tls_name=name, tls=policy)


def _refused(text: str) -> Reply:
    return made_up(Phase.STARTTLS, 451, "4.7.5", text, Origin.TLS)
