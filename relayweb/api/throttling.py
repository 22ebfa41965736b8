"""How often a key may ask: so many requests a minute, counted by each web process for itself.

The count lives in the process and not in the shared cache: it protects the process, and must work while the cache is away.
Volume of mail is another matter: that is counted at acceptance.
"""

from __future__ import annotations

import time
from typing import Any, cast

from django.conf import settings
from django.core.cache import caches
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.authentication import Principal

_WINDOW_S = 60


class PerKey(BaseThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        principal = cast(Principal, request.auth)
        now = time.time()
        window, passed = divmod(now, _WINDOW_S)
        cache = caches["process"]
        name = f"api-{principal.credential_id}-{window:.0f}"
        cache.add(name, 0, timeout=2 * _WINDOW_S)
        count = cache.incr(name)
        self.limit = settings.API_REQUESTS_PER_MINUTE
        self.remaining = max(0, self.limit - count)
        self.reset_s = max(1, round(_WINDOW_S - passed))
        view.rate = self
        return count <= self.limit

    def wait(self) -> float:
        return float(self.reset_s)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
