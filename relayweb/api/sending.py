"""From submissions to answers: once each, side by side, committed before anybody is told.

With an idempotency key, what was accepted before is answered with what it became; the same key with another request is a
conflict. The key is claimed in the transaction that stores the message, so a retry after any failure is safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.http import HttpRequest

from accounts.authentication import Principal
from delivery.acceptance import door
from delivery.acceptance.controls import is_key
from delivery.acceptance.door import Outcome
from delivery.acceptance.message import Receipt
from delivery.acceptance.once import AlreadyAccepted, Known
from delivery.acceptance.submission import Once, Submission
from delivery.core.replies import Rejection
from relayweb.api.problems import Problem, database_away, of_rejection, of_trouble

Make = Callable[[Once | None], Submission]


@dataclass(frozen=True, slots=True)
class Result:
    """One of both. ``is_repeated``: it was accepted before, under the same key."""

    receipt: Receipt | None = None
    problem: Problem | None = None
    is_repeated: bool = False


def key_of(request: HttpRequest, body: bytes) -> Once | None:
    """Raises Problem for a key that is none."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not is_key(key):
        raise Problem(400, "idempotency_key_malformed", "Idempotency-Key: 1 to 255 printable ASCII characters")
    kind = request.content_type or ""
    digest = hashlib.sha256(f"{request.get_full_path()}\n{kind}\n".encode("utf-8", "replace") + body).digest()
    return Once(key, digest)


def send_all(wanted: Sequence[Make | Problem], *, principal: Principal, key: Once | None = None) -> list[Result]:
    """One result each, in order. Raises Problem where nobody was accepted because of us, or the key was used otherwise."""
    earlier = _earlier(principal, key)
    results: list[Result | None] = []
    submissions: list[tuple[int, Submission]] = []
    for place, make in enumerate(wanted):
        if place in earlier:
            results.append(Result(receipt=earlier[place].receipt, is_repeated=True))
            continue
        results.append(None)
        try:
            if isinstance(make, Problem):
                raise make
            submissions.append((place, make(None if key is None else Once(key.key, key.digest, place))))
        except Problem as problem:
            results[place] = Result(problem=problem)
        except Rejection as rejection:
            results[place] = Result(problem=of_rejection(rejection))
    outcomes = door.accept_all_from_thread([one for _, one in submissions]) if submissions else []
    if any(isinstance(outcome.trouble, AlreadyAccepted) for outcome in outcomes):
        earlier = _earlier(principal, key)
    for (place, _), outcome in zip(submissions, outcomes, strict=True):
        results[place] = _result(outcome, earlier.get(place))
    return [result for result in results if result is not None]


def send_one(make: Make, *, principal: Principal, key: Once | None = None) -> Result:
    """Raises Problem unless it was accepted."""
    (result,) = send_all([make], principal=principal, key=key)
    if result.problem is not None:
        raise result.problem
    return result


def _earlier(principal: Principal, key: Once | None) -> dict[int, Known]:
    if key is None:
        return {}
    found = door.accepted_before(principal.tenant_id, key)
    if any(known.digest != key.digest for known in found.values()):
        raise Problem(409, "idempotency_key_reused", "This key was used for another request within 24 hours.")
    return found


def _result(outcome: Outcome, earlier: Known | None) -> Result:
    if outcome.receipt is not None:
        return Result(receipt=outcome.receipt)
    if outcome.rejection is not None:
        return Result(problem=of_rejection(outcome.rejection))
    assert outcome.trouble is not None
    if isinstance(outcome.trouble, AlreadyAccepted):
        # Whoever had the key may have failed after all: then it is free again.
        return Result(problem=database_away()) if earlier is None else Result(receipt=earlier.receipt, is_repeated=True)
    problem = of_trouble(outcome.trouble)
    if problem is None:
        raise outcome.trouble
    return Result(problem=problem)
