"""manage.py smtpgate: one gate process. The supervisor starts as many as RELAY_GATE_PROCESSES says."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from smtpgate import server
from smtpgate.heartbeat import GATE, RETURNS
from smtpgate.limits import Limits
from smtpgate.tls import Certificate


class Command(BaseCommand):
    help = "Takes mail over SMTP submission, as one of several processes on the same ports."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--process", type=int, default=1, metavar="N", help="number of this process on its node")

    def handle(self, *args: Any, **options: Any) -> None:
        # aiosmtpd writes what it hears to this logger, at levels we might be asked for.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        uvloop.run(self._run(options["process"]))

    async def _run(self, number: int) -> None:
        gate = server.Gate(
            _listeners(),
            limits=Limits.from_settings(),
            hostname=settings.HOSTNAME,
            node=settings.NODE,
            number=number,
            part=RETURNS if settings.PART == RETURNS else GATE,
            certificate=_certificate(),
            proxies=settings.GATE_PROXIES,
        )
        await server.serve(gate, number=number)


def _certificate() -> Certificate:
    if not settings.TLS_CERT or not settings.TLS_KEY:
        raise CommandError("RELAY_TLS_CERT and RELAY_TLS_KEY are not set: without TLS nobody could log in")
    try:
        return Certificate(Path(settings.TLS_CERT), Path(settings.TLS_KEY))
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"RELAY_TLS_CERT or RELAY_TLS_KEY cannot be used: {error}") from error


def _listeners() -> list[server.Listener]:
    starttls = [(endpoint.host, endpoint.port) for endpoint in settings.SUBMISSION_BIND]
    implicit = [(endpoint.host, endpoint.port) for endpoint in settings.SUBMISSIONS_BIND]
    returns = [(endpoint.host, endpoint.port) for endpoint in settings.RETURNS_BIND]
    if not starttls and not implicit and not returns:
        raise CommandError(
            "RELAY_SUBMISSION_BIND, RELAY_SUBMISSIONS_BIND and RELAY_RETURNS_BIND are all off: there is nothing to listen on"
        )
    try:
        return [
            *server.bind(starttls, is_implicit_tls=False),
            *server.bind(implicit, is_implicit_tls=True),
            *server.bind(returns, is_implicit_tls=False, is_for_returns=True),
        ]
    except server.CannotListen as error:
        raise CommandError(str(error)) from error
