"""An ASGI scope as the WSGI environment that Django reads (PEP 3333)."""

from __future__ import annotations

import sys
from typing import IO, Any
from urllib.parse import unquote_to_bytes

_ALWAYS: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "wsgi.errors": sys.stderr,
    "wsgi.version": (1, 0),
    "wsgi.multiprocess": True,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
}


def environment(scope: dict[str, Any], *, body: IO[bytes]) -> dict[str, Any]:
    """Text is octets as Latin-1, as PEP 3333 wants it."""
    found = _ALWAYS | fields(scope)
    server, client = scope.get("server") or ("", ""), scope.get("client") or ("", "")
    version = scope["http_version"]
    found |= {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{version if '.' in version else version + '.0'}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
    }
    return found


def fields(scope: dict[str, Any]) -> dict[str, str]:
    """The header fields under their CGI names."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        # X_Forwarded_For would pass for X-Forwarded-For.
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = "HTTP_" + name
        value = raw_value.decode("latin-1")
        if name in found:
            value = found[name] + (";" if name == "HTTP_COOKIE" else ",") + value
        found[name] = value
    return found
