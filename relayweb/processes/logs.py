"""One log format for every process: an event, its time, and named values beside it.

A part writes JSON lines to stderr, where the supervisor (or journald) collects them; run by hand in a terminal it writes
lines for people. Values under names that promise a secret are replaced before anything is written; JSON keeps what a peer
said inside its string, so that nobody can forge a line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET_NAME = re.compile(r"passw|secret|token|authori[sz]ation|cookie|api_?key|private|credential_text", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+@", re.IGNORECASE)
_QUIET = {"asyncio": "WARNING", "amqp": "WARNING", "kombu": "WARNING", "celery": "WARNING"}

Event = MutableMapping[str, Any]


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    for name, value in event.items():
        if _SECRET_NAME.search(name) and value:
            event[name] = "[hidden]"
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_PASSWORD.sub(r"\1[hidden]@", value)
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


def configure(settings: Mapping[str, Any] | None = None) -> None:
    """Sends the standard library's loggers and structlog's to stderr. Django calls it with settings.LOGGING."""
    level = str((settings or {}).get("level") or os.environ.get("RELAY_LOG_LEVEL") or "INFO")
    render: list[Any]
    if sys.stderr.isatty():
        render = [hide_secrets, structlog.dev.ConsoleRenderer()]
    else:
        render = [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
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
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
