"""The settings that the console shows with an API key: copied as they are, each hands over a mail."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from accounts.models import Credential
from delivery.models import Message
from relayweb.console import snippets
from tests.integration.api.conftest import Program


@pytest.fixture
def shown(acme: Program, live_server: Any, settings: Any) -> dict[str, str]:
    settings.PUBLIC_URL = live_server.url
    secret = acme.key.rpartition(".")[2]
    return {one.key: one.text for one in snippets.for_credential(Credential.objects.get(), secret=secret)}


def test_the_sendgrid_package(shown: dict[str, str]) -> None:
    exec(compile(shown["sendgrid"], "snippet", "exec"), {})

    assert Message.objects.get().author == "hello@acme.example"


def test_anymail(shown: dict[str, str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(shown["anymail"], "snippet", "exec"), names)
    wanted = {name: value for name, value in names.items() if name.isupper()}

    with override_settings(**wanted):
        assert EmailMessage("First mail", "Hello", None, ["you@example.com"]).send() == 1

    assert Message.objects.get().author == "hello@acme.example"


@pytest.mark.parametrize("key", ["api-curl", "postal"])
def test_curl(shown: dict[str, str], key: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (apt-get install curl)")

    done = subprocess.run(["sh", "-c", shown[key]], capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    assert str(Message.objects.get().id) in done.stdout or '"success"' in done.stdout, done.stdout
