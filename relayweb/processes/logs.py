"""One log format for every process: an event, its time, and named values beside it.

A part writes JSON lines to stderr, where the supervisor (or journald) collects them; run by hand in a terminal it writes
lines for people. Values under names that promise a secret are replaced before anything is written; JSON keeps what a peer
said inside its string, so that nobody can forge a line. Values are cut to a length with which a line stays a line: the
supervisor takes a longer one in pieces, and a piece would begin with what a peer chose.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
import structlog

_SECRET_NAME = re.compile(r"passw|secret|token|authori[sz]ation|cookie|api_?key|private|credential_text", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+@", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What a peer can put into one event (a path, a host, a reply) and what only a traceback takes.
LONGEST_VALUE, LONGEST_TRACE = 800, 5000
# flufl.bounce says each of its seventeen steps, of mails that strangers send.
_QUIET = dict.fromkeys(("asyncio", "amqp", "kombu", "celery", "flufl.bounce"), "WARNING")

Event = MutableMapping[str, Any]


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    for name, value in event.items():
        if _promises_a_secret(name) and value:
            event[name] = "[hidden]"
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_PASSWORD.sub(r"\1[hidden]@", value)
    return event


@lru_cache(maxsize=1000)
def _promises_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def shorten(_logger: object, _method: str, event: Event) -> Event:
    """Cut long values. Without control characters, which JSON writes as six, they at most double on their way."""
    for name, value in event.items():
        if value is None or isinstance(value, int | float):
            continue
        text = value if isinstance(value, str) else str(value)
        if name in {"exception", "stack"}:
            # Its end says what happened.
            event[name] = text if len(text) <= LONGEST_TRACE else f"… {text[-LONGEST_TRACE:]}"
        elif len(text) > LONGEST_VALUE:
            event[name] = f"{_CONTROL.sub('?', text[:LONGEST_VALUE])} … ({len(text)} characters)"
    return event


def _spare_the_trace(_logger: object, _method: str, event: Event) -> Event:
    """A request with a host or a cookie that nobody made is the client's doing: one line, and no trace of our code."""
    if str(event.get("logger", "")).startswith("django.security."):
        event.pop("exc_info", None)
        if event.get("level") == "error":
            event["level"] = "warning"
    return event


def _name_the_process(_logger: object, _method: str, event: Event) -> Event:
    part = os.environ.get("RELAY_PART_NAME")
    if part:
        event.setdefault("part", part)
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _name_the_process,
    structlog.processors.StackInfoRenderer(),
]


def _as_json(_logger: object, _method: str, event: Event) -> str:
    try:
        return _encode(event).decode()
    except (UnicodeError, OverflowError, TypeError):  # half of a character, as a peer's octets may leave it
        return json.dumps(event, default=str)


_encode = msgspec.json.Encoder(enc_hook=str).encode

_TO_JSON: list[Any] = [_spare_the_trace, structlog.processors.format_exc_info, hide_secrets, shorten, _as_json]


class _Lines:
    """What structlog's own loggers write to: stderr, past the standard library, whose records would cost each mail more than
    its line does. A log that cannot be written stops nobody.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")

    log = debug = info = warning = warn = error = exception = critical = fatal = msg


def configure(settings: Mapping[str, Any] | None = None) -> None:
    """Sends the standard library's loggers and structlog's to stderr. Django calls it with settings.LOGGING."""
    level = str((settings or {}).get("level") or os.environ.get("RELAY_LOG_LEVEL") or "INFO")
    if is_for_people := sys.stderr.isatty():
        render: list[Any] = [_spare_the_trace, hide_secrets, shorten, structlog.dev.ConsoleRenderer()]
    else:
        render = _TO_JSON
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), logging.getLevelName(least)))
    for name in ("django", "django.server", "celery", "celery.task", "mail.log"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    last_steps: list[Any] = [structlog.stdlib.ProcessorFormatter.wrap_for_formatter] if is_for_people else _TO_JSON
    structlog.configure(
        processors=[*_SHARED, *last_steps],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory() if is_for_people else _Lines,
        cache_logger_on_first_use=True,
    )
