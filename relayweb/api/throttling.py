"""How often a key, and all keys of a tenant together, may ask: so many requests a minute, counted by each web process for itself.

The counts live in the process and not in the shared cache: they protect the process, and must work while the cache is away.
Volume of mail is another matter: that is counted at acceptance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.core.cache import caches
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.authentication import Principal

_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Count:
    """Of one policy in the current minute."""

    policy: str
    limit: int
    count: int

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.count)


class Requests(BaseThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        principal = cast(Principal, request.auth)
        window, passed = divmod(time.time(), _WINDOW_S)
        self.reset_s = max(1, round(_WINDOW_S - passed))
        self.counts = (
            _count("key", principal.credential_id, settings.API_REQUESTS_PER_MINUTE, window),
            _count("tenant", principal.tenant_id, settings.API_TENANT_REQUESTS_PER_MINUTE, window),
        )
        view.rate = self
        return all(one.count <= one.limit for one in self.counts)

    def wait(self) -> float:
        return float(self.reset_s)

    @property
    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them since -08, and as clients know them from its beginnings."""
        nearest = min(self.counts, key=lambda one: one.remaining)
        return {
            "RateLimit-Policy": ", ".join(f'"{one.policy}";q={one.limit};w={_WINDOW_S}' for one in self.counts),
            "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={self.reset_s}' for one in self.counts),
            "RateLimit-Limit": str(nearest.limit),
            "RateLimit-Remaining": str(nearest.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


def _count(policy: str, owner: object, limit: int, window: float) -> Count:
    cache = caches["process"]
    name = f"api-{policy}-{owner}-{window:.0f}"
    cache.add(name, 0, timeout=2 * _WINDOW_S)
    return Count(policy, limit, cache.incr(name))
