"""What readers do: sign in, find a mail, understand it, watch it; by keyboard, without scripts, with hostile mail."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

from delivery.models import QueueEntry, Recipient
from tests.support.journeys import EXAMPLES, PASSWORD, Cast, Fate, Try, write_examples, write_message


def test_from_sign_in_to_a_bounce_reason_by_keyboard_alone(cast: Cast, window: Any) -> None:
    write_examples(cast.acme)
    page = window().open("/accounts/login/")
    page.keyboard.type("alice@acme.example")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/t/acme/")
    page.focus("nav a[href$='/messages/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/t/acme/messages/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.focus("#recipient")
    page.keyboard.type("unknown@corp.example")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?recipient=unknown%40corp.example")
    page.focus(".rw-open >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=What you can do")

    assert "says this address does not exist" in page.inner_text(".rw-told")
    page.focus("details.rw-proof[id^='a-'] summary >> nth=0")
    page.keyboard.press("Enter")
    assert page.is_visible("text=RCPT TO:<unknown@corp.example>")


def test_filters_make_short_addresses_and_chips_take_them_back(cast: Cast, window: Any) -> None:
    write_message(cast.acme, *EXAMPLES)
    one = window("ja")
    one.sign_in("alice@acme.example")
    page = one.open("/t/acme/messages/")

    page.click("summary:has-text('状態')")
    page.check("input[value=bounced]")
    page.click("button:has-text('検索する')")
    page.wait_for_url("**/messages/?state=bounced")
    assert page.locator(".rw-row").count() == 2
    page.click(".rw-chip a")
    page.wait_for_url("**/messages/?")

    assert page.locator(".rw-row").count() == len(EXAMPLES)


def test_a_message_changes_while_it_is_watched_and_nothing_jumps(cast: Cast, window: Any) -> None:
    message = write_message(cast.acme, EXAMPLES[0], EXAMPLES[1], subject="watched")
    one = window()
    one.sign_in("alice@acme.example")
    page = one.open(f"/t/acme/messages/{message.id}/")
    opened = page.locator("details.rw-recipient").first.locator("details.rw-proof").last
    opened.locator("summary").click()
    name = opened.get_attribute("id")

    Recipient.objects.filter(message=message, state="deferred").update(
        state="delivered", state_since=datetime.now(tz=UTC), reply="250 OK", reply_code=250, reply_class=""
    )
    QueueEntry.objects.filter(message_id=message.id).delete()
    page.wait_for_selector("text=All 2 recipients were accepted", timeout=10_000)

    assert page.locator(f"#{name}").get_attribute("open") is not None
    assert page.title().startswith("✓ Accepted by the receiving server")
    assert "All 2 recipients" in page.inner_text("[data-announce]")
    assert page.locator("[data-live]").count() == 0


def test_the_log_shows_changes_in_place_and_new_rows_on_demand(cast: Cast, window: Any) -> None:
    message = write_message(cast.acme, EXAMPLES[1])
    one = window()
    one.sign_in("alice@acme.example")
    page = one.open("/t/acme/messages/")
    before = page.locator(".rw-row").first.bounding_box()

    Recipient.objects.filter(message=message).update(state="held", reason="operator")
    write_message(cast.acme, EXAMPLES[0], accepted_at=datetime.now(tz=UTC))
    page.wait_for_selector("text=Show 1 new", timeout=15_000)
    page.wait_for_selector(".rw-row .rw-hold", timeout=20_000)

    assert page.locator(".rw-row").count() == 1
    assert page.locator(".rw-row").first.bounding_box()["x"] == before["x"]
    page.click("text=Show 1 new")
    page.wait_for_load_state()
    assert page.locator(".rw-row").count() == 2


def test_a_paused_page_asks_for_nothing(cast: Cast, window: Any) -> None:
    message = write_message(cast.acme, EXAMPLES[1])
    one = window()
    one.sign_in("alice@acme.example")
    page = one.open(f"/t/acme/messages/{message.id}/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.click("[data-live-pause]")
    asked.clear()
    page.wait_for_timeout(5_000)

    assert page.get_attribute("[data-live-pause]", "aria-pressed") == "true"
    assert asked == []


def test_everything_needed_works_without_scripts(cast: Cast, window: Any) -> None:
    message = write_message(cast.acme, *EXAMPLES)
    one = window(java_script_enabled=False)
    one.open("/accounts/login/")
    one.page.fill("#email", "alice@acme.example")
    one.page.fill("#password", PASSWORD)
    one.page.click("button.btn-primary")
    page = one.page
    page.wait_for_url("**/t/acme/")
    page.click("nav a[href$='/messages/']")
    page.click("summary:has-text('State')")
    page.check("input[value=bounced]")
    page.click("button:has-text('Search')")
    assert page.locator(".rw-row").count() == 2

    one.open(f"/t/acme/messages/{message.id}/")
    page.click("details.rw-proof summary >> nth=1")
    assert page.is_visible(".rw-transcript >> nth=0")
    page.click("button:has-text('日本語')")
    assert page.is_visible("text=何が起きたか")
    page.click("[aria-label='サインアウトする']")
    page.wait_for_url("**/accounts/login/")


def test_the_menu_of_a_phone_opens_and_closes_by_keyboard(cast: Cast, window: Any) -> None:
    page = window("ja", width=360).sign_in("alice@acme.example")
    assert not page.is_visible(".rw-nav")

    page.focus("button[popovertarget=nav]")
    page.keyboard.press("Enter")
    assert page.is_visible(".rw-nav")
    page.keyboard.press("Escape")

    assert not page.is_visible(".rw-nav")
    assert page.evaluate("document.activeElement.getAttribute('popovertarget')") == "nav"


def test_hostile_mail_runs_nothing_and_loads_nothing(cast: Cast, window: Any) -> None:
    hostile = "\"><svg onload=alert(1)><img src=x onerror=alert(1)>'{{7*7}}"
    content = (
        f"From: a@acme.example\r\nSubject: {hostile}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        "<img src='https://tracker.example/1.png'><script>top.location='https://evil.example'</script>"
        "<a href='https://evil.example' target=_top>click</a><body onload=alert(1) background='//evil.example/b'>"
        "<style>@import url(https://evil.example/x.css)</style><meta http-equiv=refresh content='0;url=https://evil.example'>"
    ).encode()
    fate = Fate(address="x@y.example", state="bounced", tries=(Try(reply=f"550 5.1.1 {hostile}", host=hostile[:60]),))
    message = write_message(cast.acme, fate, subject=hostile, content=content)
    one = window()
    dialogs: list[str] = []
    one.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    one.sign_in("alice@acme.example")

    for path in ("", *(f"{message.id}/{view}" for view in ("", "?view=headers", "?view=preview", "?view=identifiers"))):
        page = one.open(f"/t/acme/messages/{path}")
        page.wait_for_timeout(200)
    page = one.open(f"/t/acme/messages/{message.id}/?view=preview")
    frame = page.frame_locator("iframe")
    frame.locator("text=click").click()

    assert dialogs == []
    assert page.url.endswith("?view=preview")
    assert len(one.foreign) == 0


def test_the_first_view_is_light(cast: Cast, window: Any) -> None:
    write_examples(cast.acme)
    one = window()
    one.sign_in("alice@acme.example")
    sizes: dict[str, int] = {}
    one.page.on("response", lambda answer: sizes.update({answer.url: len(gzip.compress(answer.body()))}))
    one.open("/t/acme/messages/")
    one.page.wait_for_load_state("networkidle")

    assert sum(sizes.values()) <= 160_000
    assert sum(size for url, size in sizes.items() if "/static/js/" in url) <= 20_000
    assert sum(size for url, size in sizes.items() if "/static/css/" in url) <= 12_000
