"""A client that openapi-python-client makes from the document, used as somebody would use it, over real HTTP."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from delivery.models import Message, Suppression
from tests.integration.api.conftest import Program

GENERATOR = Path(sys.executable).with_name("openapi-python-client")
PACKAGE = "relayweb_client_of_the_tests"


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives a module of the generated package."""
    from relayweb.api import documentation

    (tmp_path / "schema.json").write_text(json.dumps(documentation.document()))
    (tmp_path / "config.json").write_text(
        json.dumps({"post_hooks": [], "content_type_overrides": {"message/rfc822": "application/octet-stream"}})
    )
    made = subprocess.run(
        [GENERATOR, "generate", "--path", "schema.json", "--config", "config.json", "--meta", "none",
         "--output-path", PACKAGE, "--fail-on-warning"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name: importlib.import_module(f"{PACKAGE}.{name}")


def test_a_generated_client_sends_reads_and_manages(acme: Program, generated: Any, live_server: Any) -> None:
    models = generated("models")
    client = generated("client").AuthenticatedClient(base_url=live_server.url, token=acme.key)

    sent = generated("api.send.send_message").sync(
        client=client,
        body=models.Mail(from_="shop@acme.example", to="taro@far.test", subject="ご注文", text="ありがとう"),
    )
    assert isinstance(sent, models.Accepted)
    (listed,) = generated("api.messages.list_messages").sync(client=client, author="acme.example").data
    assert (listed.id, listed.subject) == (sent.id, "ご注文")
    recipient = generated("api.recipients.get_recipient").sync(sent.recipients[0].id, client=client)
    assert (recipient.state, recipient.events[0].type_) == (models.RecipientState.QUEUED, models.EventKind.ACCEPTED)
    cancelled = generated("api.messages.cancel_message").sync(sent.id, client=client)
    assert cancelled.changed == 1
    content = generated("api.messages.get_message_content").sync(sent.id, client=client)
    assert b"Subject:" in content.payload.read()
    added = generated("api.suppressions.add_suppression").sync(
        client=client, body=models.NewSuppression(address="nobody@far.test")
    )
    assert Suppression.objects.get().id == added.id

    problem = generated("api.domains.add_domain").sync(client=client, body=models.NewDomain(name="gmail.com"))

    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.type_) == (422, "urn:relayweb:problem:domain_of_mail_provider")
    assert Message.objects.count() == 1
