"""Sessions of signed-in browsers, in the database under a hash of their key.

The key in a browser's cookie is all that is needed to be that person. The database, its dumps and its replicas hold what
a key can be checked against and not made from.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

# As long as the column: 160 bits. A key is random and longer, so a fast hash is enough.
_HEX_DIGITS = 40


def stored_key(session_key: str) -> str:
    """Under what a session stands in the tables."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:_HEX_DIGITS]


class SessionStore(DatabaseStore):
    """Django's store of the database but for the name of the rows."""

    def _get_session_from_db(self) -> Any:
        found = None
        if self.session_key is not None:
            found = self.model.objects.filter(
                session_key=stored_key(self.session_key), expire_date__gt=timezone.now()
            ).first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        instance = super().create_model_instance(data)
        instance.session_key = stored_key(instance.session_key)
        return instance

    def delete(self, session_key: str | None = None) -> None:
        known = session_key or self.session_key
        if known is not None:
            super().delete(stored_key(known))
