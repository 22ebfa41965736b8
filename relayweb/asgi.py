"""The web process's entry point: Django's WSGI handler behind a shell that receives bodies before it takes a thread."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")

from relayweb import wsgi

# isort: split
from django.conf import settings

from relayweb import uploads
from relayweb.api import outgoing
from relayweb.middleware import client_address
from relayweb.serving.bodies import Limits
from relayweb.serving.shell import Shell

# Beside connections and the files of bodies: the database, the log, what pages open.
_OTHER_FILES = 256


def _allow_open_files(wanted: int) -> None:
    """As many as the hard limit lets us; with fewer, connections wait at the door for one another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _address(environ: dict[str, Any]) -> str:
    return client_address(environ["REMOTE_ADDR"], environ.get("HTTP_X_FORWARDED_FOR", ""))


_allow_open_files(settings.WEB_CONNECTIONS + settings.WEB_BODIES + _OTHER_FILES)

application = Shell(
    wsgi.application,
    threads=settings.WEB_THREADS,
    limits=Limits(
        silence_seconds=settings.WEB_BODY_SECONDS,
        octets_per_second=settings.WEB_BODY_BYTES_PER_SECOND,
        bodies=settings.WEB_BODIES,
        bodies_per_address=settings.WEB_BODIES_PER_ADDRESS,
        held_octets=settings.WEB_BODIES_HELD_BYTES,
    ),
    most_octets=max(outgoing.most_octets(), uploads.MOST_OCTETS),
    address_of=_address,
)
