"""Our side of TLS: the certificate from files, read again when the operator has renewed it."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

# Forward secrecy and authenticated encryption only; TLS 1.3's own suites are not listed here.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"


class Certificate:
    """Raises OSError or ssl.SSLError if it cannot be read at first; later trouble keeps what was read before."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        return self._context

    def read_again(self) -> None:
        try:
            self._context = self._read()
        except (OSError, ssl.SSLError) as error:
            log.error("certificate_not_read", file=str(self._certificate), error=str(error))
        else:
            log.info("certificate_read", file=str(self._certificate))

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_ciphers(_CIPHERS)
        context.load_cert_chain(self._certificate, self._key)
        return context
