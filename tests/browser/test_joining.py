"""What a new person does: sign up, confirm from another window, protect the sign-in, and come back by passkey."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.core import mail

from accounts import factors
from accounts.models import Membership, Passkey, User
from relayweb import letters
from tests.support.journeys import PASSWORD, Cast

WORDS = {
    "en": {"confirm": "Confirm", "make": "Make the tenant", "set up": "Set it up", "kept": "I have kept them",
           "passkey": "Make the passkey", "sign in": "Sign in with a passkey", "protected": "protected by a second factor"},
    "ja": {"confirm": "確認する", "make": "テナントを作成する", "set up": "設定する", "kept": "控えました",
           "passkey": "パスキーを作成する", "sign in": "パスキーでサインインする", "protected": "2つ目の認証で守られています"},
}  # fmt: skip
NEW = "dora@initech.example"


def _letter(address: str) -> str:
    letters.wait_until_sent()
    return str(next(message.body for message in reversed(mail.outbox) if address in message.to))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_from_sign_up_to_a_protected_sign_in(language: str, cast: Cast, window: Any, settings: Any) -> None:
    settings.SIGNUP = "open"
    words, one, other = WORDS[language], window(language), window(language)
    page = one.open("/accounts/login/")
    page.click("a[href='/accounts/signup/']")
    page.fill("#id_email", NEW)
    page.fill("#password", "short")
    page.click("button.btn-primary")
    page.wait_for_selector("#password-error")
    page.fill("#password", PASSWORD)
    page.click("button.btn-primary")
    page.wait_for_url("**/accounts/verify/")

    link = re.search(r"/accounts/confirm/\S+/", _letter(NEW))
    assert link is not None
    other.open(link.group())
    other.page.click(f"button:has-text('{words['confirm']}')")
    page.wait_for_url("**/tenants/")

    page.click("a[href='/tenants/new/'] >> nth=0")
    page.fill("#id_name", "Initech")
    page.click(f"button:has-text('{words['make']}')")
    page.wait_for_url("**/t/initech/start/")
    assert Membership.objects.get(user__email=NEW).role == "owner"

    one.open("/me/security/app/")
    secret = page.inner_text("#key").replace(" ", "")
    page.fill("#id_code", factors.code_at(secret, int(time.time()) // factors.STEP_SECONDS))
    page.click(f"button:has-text('{words['set up']}')")
    page.wait_for_selector("#codes")
    code = page.inner_text("#codes").split()[0]
    page.click(f"a:has-text('{words['kept']}')")
    assert page.is_visible(f"text={words['protected']}")

    page.click(".rw-person form button")
    page.wait_for_url("**/accounts/login/")
    page.fill("#email", NEW)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url("**/accounts/second-factor/")
    page.fill("#code", code)
    page.press("#code", "Enter")
    page.wait_for_url("**/t/initech/")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_passkey_is_made_and_signs_in_without_a_password(language: str, cast: Cast, window: Any) -> None:
    words, one = WORDS[language], window(language)
    one.sign_in("alice@acme.example")
    page = one.page
    tools = one.context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    tools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    one.open("/me/security/passkeys/add/")
    page.fill("#name", "phone")
    page.click(f"button:has-text('{words['passkey']}')")
    page.wait_for_selector("#codes")
    assert Passkey.objects.get().name == "phone"

    page.click(".rw-person form button")
    page.wait_for_url("**/accounts/login/")
    page.click(f"button:has-text('{words['sign in']}')")
    page.wait_for_url("**/t/acme/")

    used = Passkey.objects.get()
    assert used.last_used_at is not None
    assert User.objects.get(email="alice@acme.example").has_second_factor

    # One that the service no longer knows is refused in words, and the page stays usable.
    Passkey.objects.all().delete()
    page.click(".rw-person form button")
    page.wait_for_url("**/accounts/login/")
    one.errors.clear()
    page.click(f"button:has-text('{words['sign in']}')")
    page.wait_for_selector("[data-passkey] [role=alert]:not([hidden])")
    one.errors.clear()  # the browser notes the 400
