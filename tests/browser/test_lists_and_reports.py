"""Suppressions, unsubscribes, DMARC reports and the operator's rules: accessible, and used as people use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from delivery import reply_rules, suppression_imports, suppressions
from delivery.core.live_rules import Draft
from delivery.domains import add_domain
from delivery.models import DmarcRow, DomainReport, Stream, Suppression, SuppressionReason, TlsFailure, UnmatchedReply
from delivery.suppressions import Cause, Owner, read_target
from tests.browser.looks import in_each_look
from tests.browser.test_accessibility import problems_of
from tests.support.journeys import Cast, Fate, write_message

SYSTEM = Actor.system("test")
ODD = f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example"


@pytest.fixture
def filled(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Cast:
    monkeypatch.setattr("delivery.acceptance.doorbell.ring_for_imports", lambda: None)
    now = timezone.now()
    message = write_message(
        cast.acme, Fate(address="reader@example.com"), subject="十一月のお知らせ " + "長い件名" * 30
    )
    bulk = Stream.objects.of(cast.acme).get(name="bulk")
    for text, reason, owner, more in (
        (ODD, "bounce", Owner(cast.acme), {"reply_class": "bad_mailbox", "detail": "550 5.1.1 " + "x" * 400}),
        (
            "full@example.net",
            "bounce",
            Owner(cast.acme),
            {"reply_class": "mailbox_full", "expires_at": now + timedelta(9)},
        ),
        ("spam@example.com", "complaint", Owner(cast.acme, bulk), {"detail": "abuse"}),
        ("reader@example.com", "unsubscribe", Owner(cast.acme, bulk), {"detail": "mail", "message_id": message.pk}),
        ("*@*.trap.example", "manual", Owner(cast.acme), {"detail": "\u202eright to left 😀"}),
    ):
        suppressions.add(owner, read_target(text), Cause(SuppressionReason(reason), **more), actor=SYSTEM)
    domain = add_domain(cast.acme, "acme.example", actor=SYSTEM, assume_verified=True)
    common = {
        "tenant": cast.acme,
        "domain": domain,
        "begins_at": now - timedelta(days=2),
        "ends_at": now - timedelta(days=1),
    }
    dmarc = DomainReport.objects.create(
        kind="dmarc", reporter="google.com", report_id="1" * 60, policy="none", total=5_049, passed=5_040, **common
    )
    names = {"header_from": "acme.example", "dkim_domain": "acme.example", "spf_domain": "bounce.acme.example"}
    for source, count, passes in (
        ("192.0.2.10", 5_000, True),
        ("2001:db8:85a3::8a2e:370:7334", 40, True),
        ("203.0.113.66", 9, False),
    ):
        DmarcRow.objects.create(
            report=dmarc,
            source=source,
            count=count,
            dkim_aligned=passes,
            spf_aligned=passes,
            disposition="none",
            **names,
        )
    tls = DomainReport.objects.create(kind="tls", reporter="Receiver", report_id="t-1", total=100, passed=97, **common)
    TlsFailure.objects.create(report=tls, kind="certificate-expired", count=3, receiving_host="mx.acme.example")
    DomainReport.objects.create(kind="dmarc", reporter="odd.example", report_id="x", fault="too_large", **common)
    draft = Draft("oracle", ("docomo",), ("rcpt",), ("55",), (), "oracle is displeased", "policy", "fail", "message",
                  "rcpt 550 oracle is displeased", "seen in November")  # fmt: skip
    reply_rules.add_rule(draft, actor=SYSTEM)
    reply_rules.remove_rule(
        reply_rules.add_rule(
            Draft("gone", (), (), ("571",), (), "", "policy", "fail", "message", "eod 571 x"), actor=SYSTEM
        ),
        actor=SYSTEM,
    )
    said = "550 5.9.9 <address> " + "the oracle " * 20
    UnmatchedReply.objects.create(key=b"k" * 16, group_key="docomo", phase="rcpt", text=said, example=said, count=1_234)
    return cast


@pytest.fixture
def pages(filled: Cast) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    row = Suppression.objects.get(value=ODD)
    complaint = Suppression.objects.get(reason="complaint")

    def visit(window: Any) -> Iterator[tuple[str, Any]]:
        window.sign_in("alice@acme.example")
        for name, address in (
            ("suppressions", "suppressions/"),
            ("suppressions, exact", "suppressions/?q=full@example.net"),
            ("suppressions, nothing", "suppressions/?q=nobody&reason=manual"),
            ("suppression", f"suppressions/{row.pk}/"),
            ("suppression, add", "suppressions/add/"),
            ("suppression, remove", f"suppressions/{complaint.pk}/remove/"),
            ("import", "suppressions/import/"),
            ("unsubscribes", "unsubscribes/"),
            ("dmarc", "dmarc/"),
        ):
            yield name, window.open(f"/t/acme/{address}")
        page = window.open("/t/acme/suppressions/")
        page.click("details.rw-pick summary")
        yield "suppressions, filters open", page
        page = window.open("/t/acme/dmarc/acme.example/")
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        yield "dmarc, domain", page
        page = _hand_in(window, "email\nbob@example.com\nnonsense\n" + "x" * 300 + "\n")
        yield "import, preview", page
        page.click("button.btn-primary")
        page.wait_for_selector("progress")
        yield "import, waiting", page
        window.context.clear_cookies()
        window.sign_in("charlie@globex.example")
        for name, address in (
            ("suppressions, none", "suppressions/"),
            ("unsubscribes, none", "unsubscribes/"),
            ("dmarc, none", "dmarc/"),
        ):
            yield name, window.open(f"/t/globex/{address}")
        window.context.clear_cookies()
        window.sign_in("olivia@relay.example")
        group = UnmatchedReply.objects.get()
        for name, address in (
            ("rules", "rules/"),
            ("rules of the product", "rules/built-in/?group=docomo"),
            ("rule", "rules/oracle/"),
            ("rule, remove", "rules/oracle/remove/"),
            ("rule, from unclassified", f"rules/add/?unmatched={group.pk}"),
            ("unclassified", "unclassified/"),
            ("unclassified, ignore", f"unclassified/{group.pk}/ignore/"),
        ):
            yield name, window.open(f"/operator/{address}")
        page = window.open("/operator/rules/try/")
        page.fill("#id_reply", "550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist")
        page.click("button.btn-primary")
        page.wait_for_selector("#verdict")
        yield "rule, tried", page

    return visit


def _hand_in(window: Any, text: str) -> Any:
    page = window.open("/t/acme/suppressions/import/")
    page.set_input_files("#id_file", {"name": "list.csv", "mimeType": "text/csv", "buffer": text.encode()})
    page.click("button.btn-primary")
    page.wait_for_url(lambda url: not url.endswith("/import/"))
    return page


@in_each_look
def test_every_page_is_accessible(language: str, theme: str, width: int, pages: Any, window: Any) -> None:
    problems = []
    for name, page in pages(window(language, theme, width)):
        problems += problems_of(page, name, language=language, width=width)

    assert problems == []


def test_an_import_is_watched_to_its_end_and_taken_back(filled: Cast, window: Any) -> None:
    here = window()
    here.sign_in("alice@acme.example")
    page = _hand_in(here, "email\nnew1@example.com\nnonsense\nnew2@example.com\n")
    page.click("button.btn-primary")
    page.wait_for_selector("progress")

    suppression_imports.run_waiting()

    page.wait_for_selector("progress", state="detached", timeout=15_000)
    assert "1 row could not be" in page.inner_text("#import")
    page.click("text=Take this import back")
    page.wait_for_selector("text=Taken back: 2 entries")


def test_an_entry_is_found_removed_and_brought_back_without_a_mouse(filled: Cast, window: Any) -> None:
    here = window()
    here.sign_in("alice@acme.example")
    page = here.open("/t/acme/suppressions/")
    page.focus("#q")
    page.keyboard.type("full@example.net")
    page.keyboard.press("Enter")
    page.wait_for_selector("#exact")
    page.focus("a.rw-open")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Allow mail again…")
    page.focus("text=Allow mail again…")
    page.keyboard.press("Enter")
    page.wait_for_selector("button.btn-danger")
    page.focus("button.btn-danger")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Undo the removal")
    page.focus("text=Undo the removal")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=is kept back again")

    assert Suppression.objects.get(value="full@example.net").removed_at is None
