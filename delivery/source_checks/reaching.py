"""Whether port 25 is open outwards from an address: a connection to hosts that the operator names, and their greeting.

Nobody is asked who did not agree to it: without such hosts nothing is looked at. No mail transaction begins.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Sequence
from contextlib import suppress

from delivery.dns import DnsFailure, Resolver
from delivery.source_checks.looking import Result, Verdict

CHECK = "port_25"
# Written where this process runs on another machine than the address; its node fills it in.
ASKED_OF_THE_NODE = "its node looks"
_TIMEOUT_S = 10.0
_MOST_AT_ONCE = 20
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

Probe = tuple[str, int]  # host, port


class _NotBound(Exception):
    """This machine does not have the address."""


async def reach(addresses: Sequence[str], probes: Sequence[Probe], resolver: Resolver) -> list[Result]:
    """The result for each address. One probe that answers is enough: a host may be down."""
    turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def one(address: str) -> Result:
        async with turns:
            return await _reach_from(address, probes, resolver)

    return list(await asyncio.gather(*map(one, addresses)))


async def _reach_from(address: str, probes: Sequence[Probe], resolver: Resolver) -> Result:
    if not probes:
        return Result(CHECK, Verdict.SKIPPED, "RELAY_SMTP_PROBES names no host")
    version = ipaddress.ip_address(address).version
    silent: list[str] = []
    unknown: list[str] = []
    for host, port in probes:
        try:
            targets = await _addresses_of(host, version, resolver)
        except DnsFailure as failure:
            unknown.append(f"{host}: {failure}")
            continue
        if not targets:
            unknown.append(f"{host} has no IPv{version} address")
            continue
        try:
            said = await asyncio.wait_for(_greeting(address, targets[0], port), _TIMEOUT_S)
        except _NotBound:
            return Result(CHECK, Verdict.FAILED, f"this machine does not have {address}")
        except TimeoutError:
            silent.append(f"{host}: no answer within {_TIMEOUT_S:.0f} s")
        except OSError as error:
            silent.append(f"{host}: {error.strerror or error}")
        else:
            return Result(CHECK, Verdict.OK, f"{host} answers: {said}")
    if silent:
        return Result(CHECK, Verdict.BAD, "; ".join(silent))
    return Result(CHECK, Verdict.FAILED, "; ".join(unknown))


async def _addresses_of(host: str, version: int, resolver: Resolver) -> list[str]:
    """Raises DnsFailure."""
    with suppress(ValueError):
        return [host] if ipaddress.ip_address(host).version == version else []
    return await (resolver.a(host) if version == 4 else resolver.aaaa(host))


async def _greeting(address: str, target: str, port: int) -> str:
    """What the host says first, in one line. Raises _NotBound, OSError."""
    try:
        reader, writer = await asyncio.open_connection(target, port, local_addr=(address, 0))
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise _NotBound from None
        raise
    try:
        line = await reader.readline()
        if not line:
            raise OSError(errno.ECONNRESET, "it closed the connection without a greeting")
        writer.write(b"QUIT\r\n")
        return line.decode("ascii", "replace").strip()[:200]
    except ValueError:
        raise OSError(errno.EPROTO, "it does not speak SMTP") from None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
