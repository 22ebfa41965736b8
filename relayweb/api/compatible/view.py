"""What the doors for clients of other services share: the same key, scope, limits and acceptance, another vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import Principal
from delivery.acceptance.controls import is_control
from relayweb.api import outgoing
from relayweb.api.authentication import Caller, caller_of_key
from relayweb.api.problems import Problem, problem_of
from relayweb.api.v1.sending import JsonOctets
from relayweb.api.views import ApiView


class CompatibleView(ApiView):
    """A subclass says how a problem is told to its clients."""

    scope = "send"
    parser_classes: Sequence[type[BaseParser]] = (JsonOctets,)

    @property
    def most_octets(self) -> int:  # type: ignore[override]
        return outgoing.most_octets()

    def body(self) -> bytes:
        data: Any = self.request.data
        # Nothing was sent, and no content type given: the framework then has an empty form.
        return data if isinstance(data, bytes) else b""

    def get_exception_handler(self) -> Any:
        return self._answer_failure

    def _answer_failure(self, error: Exception, context: Mapping[str, Any]) -> Response:
        reference = getattr(context["request"], "reference", "")
        problem = problem_of(error, reference)
        response = self.refusal(problem, reference)
        if problem.retry_after_s is not None:
            response["Retry-After"] = str(problem.retry_after_s)
        return response

    def refusal(self, problem: Problem, reference: str) -> Response:
        raise NotImplementedError


class KeyInHeader(BaseAuthentication):
    """The key in a header field that holds nothing else; a subclass names the field."""

    field = ""

    def authenticate(self, request: Request) -> tuple[Caller, Principal] | None:
        key = request.headers.get(self.field, "").strip()
        if not key:
            return None
        caller = caller_of_key(key, request)
        if caller is None:
            raise AuthenticationFailed
        return caller, caller.principal


def split_headers(headers: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The header fields a client sets, and those among them that are for us."""
    theirs = [(name, value) for name, value in headers.items() if not is_control(name)]
    return theirs, [(name, value) for name, value in headers.items() if is_control(name)]
