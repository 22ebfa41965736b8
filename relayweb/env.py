"""Typed readers for the process environment.

Every setting of relayweb comes from a variable with the prefix ``RELAY_``. A value that cannot be used stops the process
at once with one sentence that names the variable: a relay that starts with a misread limit is worse than one that does not
start. Secrets may also be given as a file (``RELAY_SECRET_KEY_FILE``), so that they need not stand in the environment.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "RELAY_"


class ConfigurationError(SystemExit):
    """Stops the process with a sentence; nothing has been started yet when it is raised."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"relayweb cannot start: {sentence}")


def text(name: str, default: str | None = None) -> str:
    """The variable's value; without one and without a default the process stops."""
    value = os.environ.get(PREFIX + name)
    if value is None or value == "":
        if default is None:
            raise ConfigurationError(f"{PREFIX}{name} is not set")
        return default
    return value


def is_given(name: str) -> bool:
    """Whether the variable, or the file that holds it, was named."""
    return bool(os.environ.get(PREFIX + name) or os.environ.get(f"{PREFIX}{name}_FILE"))


def secret(name: str, default: str | None = None) -> str:
    """Like ``text``, but the value may also stand in the file that ``<name>_FILE`` names."""
    path = os.environ.get(f"{PREFIX}{name}_FILE")
    if path:
        if os.environ.get(PREFIX + name):
            raise ConfigurationError(f"set either {PREFIX}{name} or {PREFIX}{name}_FILE, not both")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{PREFIX}{name}_FILE cannot be read: {error}") from error
    return text(name, default)


def integer(name: str, default: int, *, minimum: int = 0, maximum: int = 2**62) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ConfigurationError(f"{PREFIX}{name} must be a whole number, not {value!r}") from None
    if not minimum <= number <= maximum:
        raise ConfigurationError(f"{PREFIX}{name} must be between {minimum} and {maximum}, not {number}")
    return number


def seconds(name: str, default: float, *, minimum: float = 0.05) -> float:
    value = text(name, str(default))
    try:
        number = float(value)
    except ValueError:
        raise ConfigurationError(f"{PREFIX}{name} must be a number of seconds, not {value!r}") from None
    if not minimum <= number < 1e9:
        raise ConfigurationError(f"{PREFIX}{name} must be at least {minimum:g} seconds, not {value}")
    return number


def flag(name: str, default: bool) -> bool:
    value = text(name, "on" if default else "off").lower()
    if value in {"1", "on", "true", "yes"}:
        return True
    if value in {"0", "off", "false", "no"}:
        return False
    raise ConfigurationError(f"{PREFIX}{name} must be on or off, not {value!r}")


def choice(name: str, options: tuple[str, ...], default: str) -> str:
    value = text(name, default)
    if value not in options:
        raise ConfigurationError(f"{PREFIX}{name} must be one of {', '.join(options)}, not {value!r}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list, without empty members."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for word in words(name):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ConfigurationError(f"{PREFIX}{name} holds {word!r}, which is not a network: {error}") from error
    return found


@dataclass(frozen=True)
class Endpoint:
    """A host and port to listen on or to talk to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _endpoint(name: str, word: str) -> Endpoint:
    host, colon, port = word.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{PREFIX}{name} must read host:port, not {word!r}")
    return Endpoint(host, int(port))


def endpoints(name: str, default: str) -> list[Endpoint]:
    """A comma list of host:port; IPv6 hosts stand in brackets. ``off`` gives an empty list."""
    if text(name, default) == "off":
        return []
    return [_endpoint(name, word) for word in words(name, default)]


def link(name: str) -> str:
    """An address for readers: https, http or mailto; empty for none."""
    value = text(name, "")
    if value and not value.startswith(("https://", "http://", "mailto:")):
        raise ConfigurationError(f"{PREFIX}{name} must begin with https://, http:// or mailto:, not {value!r}")
    return value


def endpoint(name: str) -> Endpoint | None:
    value = text(name, "")
    return _endpoint(name, value) if value else None


def is_loopback(endpoint: Endpoint) -> bool:
    try:
        return ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        return False


def encryption_keys(value: str) -> dict[str, bytes]:
    """``id:base64`` pairs, the current key first; each key is 32 octets."""
    keys: dict[str, bytes] = {}
    for word in (part.strip() for part in value.split(",")):
        if not word:
            continue
        key_id, colon, encoded = word.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not colon or not key_id or len(key) != 32:
            raise ConfigurationError(f"{PREFIX}ENCRYPTION_KEYS needs id:base64 pairs with keys of 32 octets")
        if key_id in keys:
            raise ConfigurationError(f"{PREFIX}ENCRYPTION_KEYS names the key id {key_id!r} twice")
        keys[key_id] = key
    return keys
