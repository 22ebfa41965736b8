"""The API does what its OpenAPI document says, whatever is sent, for two tenants and the operator.

A run has a few cases for each operation and always the same ones. A longer one, of 50 for each operation and kind of data:
``API_FUZZ_CASES=50 script/test tests/integration/api/test_fuzz.py``
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from accounts.identifiers import uuid7
from tests.integration.api.conftest import Program
from tests.integration.api.test_operating import operator  # noqa: F401 - a fixture
from tests.integration.api.test_tenancy import acme, globex  # noqa: F401 - fixtures: keys that may everything
from tests.support.journeys import EXAMPLES, write_message

if TYPE_CHECKING:
    from tests.support.engine_room import World

CASES = int(os.environ.get("API_FUZZ_CASES", "1"))
WANTED = {
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection",
}  # fmt: skip
SECRETS = ("Acme's secret", "Globex' secret")
# A batch is answered with 207 where one of its mails is not as the document says.
SINGLE_RESULTS = {"POST /api/v1/messages/batch"}


@pytest.fixture
def own_words(world: World) -> dict[str, Iterator[Any]]:
    """What can stand in an address: Acme's, Globex's and nobody's, in turn."""
    from accounts.audit import Actor
    from delivery import suppressions
    from delivery.models import SuppressionReason

    messages = [
        write_message(world.cast.acme, *EXAMPLES[:3], subject=SECRETS[0]),
        write_message(world.cast.globex, *EXAMPLES[3:6], subject=SECRETS[1]),
    ]
    suppressed = [
        suppressions.add(
            suppressions.Owner(tenant),
            suppressions.read_target("somebody@far.test"),
            suppressions.Cause(SuppressionReason.MANUAL),
            actor=Actor("test"),
        )[0].id
        for tenant in (world.cast.acme, world.cast.globex)
    ]
    return {
        "message_id": cycle([*(message.id for message in messages), uuid7()]),
        "recipient_id": cycle([*(message.recipients.all()[0].id for message in messages), uuid7()]),
        "suppression_id": cycle([*suppressed, uuid7()]),
        "domain": cycle(["acme.example", "globex.example", "far.test"]),
        "tenant": cycle(["globex", "nobody"]),
        "source_id": cycle([world.source.id, uuid7()]),
    }


@dataclass
class Run:
    """Sends cases with the keys of Acme and Globex in turn, and keeps what went wrong."""

    tenants: tuple[Program, Program]
    operator: Program
    own_words: dict[str, Iterator[Any]]
    seen: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def try_out(self, operation: Any, mode: GenerationMode) -> None:
        @hypothesis.settings(
            max_examples=CASES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self.send(operation, case, mode)

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            pass  # there is nothing to send that would be wrong
        except BaseExceptionGroup as failure:  # the others are tried all the same
            self.failures.append(f"{operation.label} ({mode.value}): {failure.exceptions[0]}")

    def send(self, operation: Any, case: Any, mode: GenerationMode) -> None:
        if mode == GenerationMode.POSITIVE:
            known = {name: self.own_words[name] for name in case.path_parameters or () if name in self.own_words}
            case.path_parameters.update({name: str(next(words)) for name, words in known.items()})
        turn = self.seen.total() % 2
        program = self.operator if "/operator/" in operation.path else self.tenants[turn]
        response = case.call(headers={"Authorization": f"Bearer {program.key}"})
        self.seen[response.status_code] += 1
        names = WANTED - {"negative_data_rejection"} if operation.label in SINGLE_RESULTS else WANTED
        case.validate_response(response, checks=[CHECKS.get_one(name) for name in sorted(names)])
        assert SECRETS[1 - turn] not in response.text


def test_it_is_as_its_document_says(
    acme: Program,  # noqa: F811
    globex: Program,  # noqa: F811
    operator: Program,  # noqa: F811
    own_words: dict[str, Iterator[Any]],
    settings: Any,
    caplog: Any,
) -> None:
    from relayweb.api import documentation
    from relayweb.wsgi import application

    settings.API_REQUESTS_PER_MINUTE = settings.API_TENANT_REQUESTS_PER_MINUTE = 10**9
    settings.ALLOWED_HOSTS = ["*"]
    caplog.set_level(logging.CRITICAL, "django.request")  # it tells of every refusal
    schema = schemathesis.openapi.from_dict({**documentation.document(), "servers": [{"url": "http://localhost"}]})
    schema.app = application
    schema.config.generation.update(with_security_parameters=False)
    run = Run((acme, globex), operator, own_words)

    for found in schema.get_all_operations():
        for mode in GenerationMode:
            run.try_out(found.ok(), mode)

    assert not run.failures, "\n\n".join(run.failures)
    assert run.seen[200] + run.seen[201] + run.seen[202] > 20, run.seen
