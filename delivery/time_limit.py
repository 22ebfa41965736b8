"""What a list or a search may cost: the database ends it at its statement timeout, and that is told as such."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from django.db import OperationalError


class TookTooLong(Exception):
    """The database gave up at its statement timeout; a narrower period or an exact recipient would have answered."""


@contextlib.contextmanager
def within_the_time_limit() -> Iterator[None]:
    """Around a query. Raises TookTooLong; a database out of reach raises Django's own errors."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise TookTooLong from error
        raise
