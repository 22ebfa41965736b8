"""What customers do to set up: a domain and a credential, by keyboard, without scripts, and a secret that stays shown once."""

from __future__ import annotations

from typing import Any

from accounts.models import Credential
from delivery.models import SendingDomain
from tests.support.journeys import PASSWORD, Cast


def test_a_domain_is_added_by_keyboard_and_its_records_are_copied(cast: Cast, window: Any) -> None:
    one = window()
    one.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=one.base)
    one.sign_in("alice@acme.example")
    page = one.open("/t/acme/domains/add/")
    page.focus("#id_name")
    page.keyboard.type("co.jp")
    page.keyboard.press("Enter")
    page.wait_for_selector("#id_name_error")
    assert page.evaluate("document.activeElement.id") == "id_name"

    page.fill("#id_name", "acme.example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#state")
    page.focus("[data-copy=record-0-value]")
    page.keyboard.press("Enter")

    token = SendingDomain.objects.of(cast.acme).get().ownership_token
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('relay-verify='))")
    assert page.evaluate("navigator.clipboard.readText()") == f"relay-verify={token}"


def test_a_secret_is_gone_after_a_reload_and_after_going_back(cast: Cast, window: Any) -> None:
    one = window("ja")
    one.sign_in("alice@acme.example")
    page = one.open("/t/acme/credentials/issue/?kind=smtp")
    page.fill("#id_name", "shop")
    page.click("button.btn-primary")
    page.wait_for_selector("#secret")
    secret = page.inner_text("#secret")

    page.click("text=控えました")
    page.wait_for_url(lambda url: not url.endswith("/secret/"))
    assert secret not in page.content()
    page.go_back()
    page.wait_for_load_state()
    assert secret not in page.content()
    page.reload()

    assert secret not in page.content()
    assert Credential.objects.of(cast.acme).count() == 1


def test_domains_and_credentials_work_without_scripts(cast: Cast, window: Any) -> None:
    one = window(java_script_enabled=False)
    page = one.open("/accounts/login/")
    page.fill("#email", "alice@acme.example")
    page.fill("#password", PASSWORD)
    page.click("button.btn-primary")
    page.wait_for_url("**/t/acme/")

    one.open("/t/acme/domains/add/")
    page.fill("#id_name", "acme.example")
    page.click("button.btn-primary")
    page.wait_for_url("**/domains/acme.example/")
    page.click("text=Remove this domain")
    page.click("button.btn-danger")
    page.click("button:has-text('Restore')")
    page.wait_for_url("**/domains/acme.example/")

    one.open("/t/acme/credentials/issue/?kind=api")
    page.fill("#id_name", "billing")
    page.click("button.btn-primary")
    assert page.is_visible("#secret")
    page.click("text=I have kept it")
    page.click("text=Revoke…")
    page.click("button.btn-danger")

    assert page.is_visible("text=“billing” is revoked.")
