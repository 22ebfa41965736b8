"""The web process's entry point. Health and metrics answer before Django's middleware: a probe has no Host we know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application

_pages = get_wsgi_application()

from relayweb import health  # noqa: E402 - it needs Django's applications

StartResponse = Callable[..., Any]


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    view = health.VIEWS.get(environ.get("PATH_INFO", ""))
    if view is None:
        return _pages(environ, start_response)
    response = view(WSGIRequest(environ))
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [response.content]
