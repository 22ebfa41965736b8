"""The sandbox's settings, from the environment only; a wrong one is refused with a sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Bind = tuple[str, int]


class ConfigurationError(ValueError):
    """A setting cannot be used; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Configuration:
    folder: Path
    dns_binds: tuple[Bind, ...]
    smtp_port: int
    http_binds: tuple[Bind, ...]
    scenario_file: Path | None
    log_level: str


def read_configuration(environment: Mapping[str, str] = os.environ) -> Configuration:
    scenario_file = environment.get("RELAY_SANDBOX_SCENARIOS", "").strip()
    return Configuration(
        folder=Path(environment.get("RELAY_VAR", "").strip() or "var").resolve() / "sandbox",
        dns_binds=_binds(environment, "RELAY_SANDBOX_DNS_BIND", "127.0.0.1:8053"),
        smtp_port=_port("RELAY_SANDBOX_SMTP_PORT", environment.get("RELAY_SANDBOX_SMTP_PORT", "").strip() or "8024"),
        http_binds=_binds(environment, "RELAY_SANDBOX_HTTP_BIND", "127.0.0.1:8025"),
        scenario_file=Path(scenario_file) if scenario_file else None,
        log_level=_log_level(environment),
    )


def _binds(environment: Mapping[str, str], name: str, default: str) -> tuple[Bind, ...]:
    text = environment.get(name, "").strip() or default
    return tuple(_bind(name, part.strip()) for part in text.split(",") if part.strip())


def _bind(name: str, text: str) -> Bind:
    host, colon, port = text.rpartition(":")
    if not colon or not host or (":" in host and not host.startswith("[")):
        raise ConfigurationError(f"{name} has the form address:port (IPv6: [::1]:port), not {text!r}.")
    return host.strip("[]"), _port(name, port)


def _port(name: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ConfigurationError(f"{name} needs a port between 1 and 65535, not {text!r}.")
    return int(text)


def _log_level(environment: Mapping[str, str]) -> str:
    level = environment.get("RELAY_LOG_LEVEL", "").strip().upper() or "INFO"
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ConfigurationError(f"RELAY_LOG_LEVEL is debug, info, warning, error or critical, not {level!r}.")
    return level
