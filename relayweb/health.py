"""Whether relayweb lives, whether it can do its work, and its figures: /health/live, /health/ready, /metrics.

`live` touches nothing. `ready` answers 200 while mail can be accepted, kept and delivered: the database is reachable,
migrated and durable, the gates answer, an engine's heartbeat is fresh. The broker is reported but does not decide: mail
does not depend on it. Anybody sees the parts' names and ok or failed; the durability settings and the profile are for the
machine itself and for whoever holds RELAY_METRICS_TOKEN, as are the figures.

The checks are bounded in time and their result is kept for a second, so that asking often costs nothing.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse

from delivery.acceptance.store import Durability
from relayweb.env import Endpoint

log = structlog.get_logger(__name__)

KEPT_SECONDS = 1.0
GATE_TIMEOUT_SECONDS = 2.0
BROKER_TIMEOUT_SECONDS = 1.0
# An engine writes its heartbeat every few seconds; after this long without one it is dead or stuck.
HEARTBEAT_SECONDS = 20
# Parts without which no mail can be accepted, kept or delivered.
DECISIVE = ("database", "migrations", "durability", "gate", "worker")


@dataclass(frozen=True)
class Health:
    parts: dict[str, bool]
    durability: Durability | None

    @property
    def is_ready(self) -> bool:
        return all(self.parts[name] for name in DECISIVE)


# ---------------------------------------------------------------- views


def live(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    health = _recent.get()
    answer: dict[str, Any] = {
        "status": "ok" if health.is_ready else "failed",
        "parts": {name: "ok" if is_ok else "failed" for name, is_ok in health.parts.items()},
    }
    if is_trusted(request):
        answer["profile"] = settings.PROFILE
        answer["test_profile"] = settings.TEST_PROFILE
        answer["durability"] = None
        if health.durability is not None:
            answer["durability"] = {
                "fsync": health.durability.fsync,
                "synchronous_commit": health.durability.synchronous_commit,
                "full_page_writes": health.durability.full_page_writes,
            }
    return JsonResponse(answer, status=200 if health.is_ready else 503, headers={"Cache-Control": "no-store"})


def metrics(request: HttpRequest) -> HttpResponse:
    if not is_trusted(request):
        return HttpResponse(
            "the figures are for the machine itself, or with a token\n", status=403, content_type="text/plain"
        )
    from relayweb.metrics import CONTENT_TYPE, exposition

    try:
        return HttpResponse(exposition(), content_type=CONTENT_TYPE)
    except (DatabaseError, InterfaceError) as error:
        log.warning("metrics_failed", error=str(error))
        return HttpResponse("the database is not reachable\n", status=503, content_type="text/plain")
    finally:
        connection.close_if_unusable_or_obsolete()


VIEWS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/health/live": live,
    "/health/ready": ready,
    "/metrics": metrics,
}


def is_trusted(request: HttpRequest) -> bool:
    """The machine itself, or a bearer of the token. A proxy on this machine speaks for others and says so in a field."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via")):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------- checks


class _Recent:
    """The last result, asked anew by one thread at a time when it is older than a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._health: Health | None = None
        self._until = 0.0

    def get(self) -> Health:
        with self._lock:
            if self._health is None or time.monotonic() >= self._until:
                self._health = examine()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._health


_recent = _Recent()
_is_migrated = False


def examine() -> Health:
    durability: Durability | None = None
    is_migrated = has_worker = False
    try:
        durability = _read_durability()
        is_migrated = _has_all_migrations()
        has_worker = is_migrated and _has_living_worker()
    except (DatabaseError, InterfaceError) as error:
        log.warning("health_database_failed", error=str(error))
    finally:
        with contextlib.suppress(DatabaseError, InterfaceError):
            connection.close_if_unusable_or_obsolete()
    return Health(
        parts={
            "database": durability is not None,
            "migrations": is_migrated,
            "durability": durability is not None and durability.is_safe,
            "gate": _gates_answer(),
            "worker": has_worker,
            "broker": _broker_answers(),
        },
        durability=durability,
    )


def _read_durability() -> Durability:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"
        )
        return Durability(*cursor.fetchone())


def _has_all_migrations() -> bool:
    """Once they are there they stay; until then the disk and the database are compared at each look."""
    global _is_migrated
    if not _is_migrated:
        executor = MigrationExecutor(connection)
        _is_migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _is_migrated


def _has_living_worker() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM delivery_worker WHERE part = 'worker'"
            " AND heartbeat_at > now() - make_interval(secs => %s))",
            [HEARTBEAT_SECONDS],
        )
        return bool(cursor.fetchone()[0])


def _gates_answer() -> bool:
    greet = all(_greets(endpoint, is_tls=False) for endpoint in (*settings.SUBMISSION_BIND, *settings.RETURNS_BIND))
    return greet and all(_greets(endpoint, is_tls=True) for endpoint in settings.SUBMISSIONS_BIND)


def _greets(endpoint: Endpoint, *, is_tls: bool) -> bool:
    """A gate that may not promise anything (unsafe database settings, say) greets with 4yz, and is not ready."""
    try:
        with _connection_to(endpoint) as plain, _secured(plain) if is_tls else contextlib.nullcontext(plain) as peer:
            greeting = peer.recv(512)
            peer.sendall(b"QUIT\r\n")
            peer.recv(512)
            return greeting.startswith(b"220")
    except OSError:  # also what TLS says
        return False


def _secured(plain: socket.socket) -> ssl.SSLSocket:
    """Whether TLS is spoken is asked here, not by whom: the certificate may be for another name, or nobody's yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


@contextlib.contextmanager
def _connection_to(endpoint: Endpoint) -> Iterator[socket.socket]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104 - it is not bound here
    with socket.create_connection((host, endpoint.port), timeout=GATE_TIMEOUT_SECONDS) as peer:
        yield peer


def _broker_answers() -> bool:
    if settings.BROKER_URL.startswith("amqp"):
        return _amqp_answers()
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    url = settings.BROKER_URL
    if url.startswith("redis+socket://"):  # kombu's spelling of a unix socket
        url = "unix://" + url.removeprefix("redis+socket://").split("?")[0]
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=BROKER_TIMEOUT_SECONDS,
            socket_connect_timeout=BROKER_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with contextlib.closing(client):
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def _amqp_answers() -> bool:
    from kombu import Connection
    from kombu.exceptions import KombuError

    broker = Connection(settings.BROKER_URL, connect_timeout=BROKER_TIMEOUT_SECONDS)
    try:
        broker.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT_SECONDS)
    except (OSError, KombuError, *broker.connection_errors):
        return False
    finally:
        broker.release()
    return True
