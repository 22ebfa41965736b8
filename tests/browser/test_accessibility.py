"""axe-core finds nothing, nothing is cut off, and Japanese is set as Japanese: every page, language, theme and width."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts import credentials, factors, invitations, notices, people, sealing, tenants, trust
from accounts.audit import Actor
from accounts.models import Membership, NoticeKind, Passkey, User
from delivery import domains, jobs, pools, sources, suppressions, throttles
from delivery.alerts import episodes
from delivery.alerts.rules import Found
from delivery.brakes import pulling
from delivery.core.unsubscribing import make_token, url_for
from delivery.models import (
    Alert,
    Brake,
    ProviderGroup,
    QueueEntry,
    Recipient,
    ReputationScore,
    SenderScore,
    SourceAddress,
    SourceCheck,
    Stream,
    SuppressionReason,
    Worker,
)
from delivery.models import Path as DeliveryPath
from delivery.provider_data import imports as provider_imports
from delivery.suppressions import Cause, read_target
from delivery.warmup import plans
from tests.browser.looks import in_each_look, is_turn_of_axe
from tests.support.journeys import EXAMPLES, PASSWORD, Cast, Fate, Try, write_examples, write_message, write_rejections
from tests.support.webhook_rows import write_call, write_dead, write_webhook

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN_AXE = """async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
  const said = (node) => node.html.slice(0, 160) + " " + node.any.map((check) => check.message);
  return found.violations.map((violation) => `${violation.id}: ${violation.nodes.map(said).join(" | ")}`);
}"""
SPACED_SLANTED_UPPER_CASED = """[...document.querySelectorAll("body *")].filter((element) => {
  const style = getComputedStyle(element);
  return !element.closest("svg") && (style.letterSpacing !== "normal" || style.fontStyle !== "normal"
    || style.textTransform !== "none");
}).map((element) => element.outerHTML.slice(0, 120))"""
TOO_SMALL_FOR_A_THUMB = """
[...document.querySelectorAll("button, .btn, select, input:not([type=hidden], [type=checkbox], [type=radio]), .rw-nav a")]
  .filter((element) => { const box = element.getBoundingClientRect(); return box.width && box.height < 43.5; })
  .map((element) => element.outerHTML.slice(0, 120))"""
IS_WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > innerWidth"
ODD = Fate(
    address=f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example",
    state="bounced",
    tries=(Try(reply="550 5.7.1 " + "x" * 900 + " <svg onload=alert(1)>", reply_class="policy"),),
)


@pytest.fixture
def pages(cast: Cast) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    write_examples(cast.acme)
    write_rejections(cast.acme)
    message = write_message(cast.acme, *EXAMPLES, ODD, subject="😀 \u202eright to left " + "長い件名" * 80)
    path = f"/t/acme/messages/{message.id}/"
    reader = Recipient.objects.get(message_id=message.id, address=ODD.address)
    token = make_token(reader.pk, key=sealing.derived_keys("unsubscribe")[0])
    unsubscribe = url_for(token, public_url="")
    webhook = write_webhook(cast.acme, "http://127.0.0.1:9/" + "a-long-path/" * 20, failing_since=timezone.now())
    call = write_call(webhook, outcome="status", status=500, response_body="<b>" + "x" * 900, error="e" * 200)
    write_dead(webhook)
    webhooks = [
        ("webhooks", "/t/acme/webhooks/"),
        ("webhook, add", "/t/acme/webhooks/add/"),
        *(
            (f"webhook, {part}", f"/t/acme/webhooks/{webhook.id}/{part}")
            for part in ("", "calls/", f"calls/{call.id}/", "replay/", "rotate/", "remove/")
        ),
    ]

    def visit(window: Any) -> Iterator[tuple[str, Any]]:
        link = people.one_time_link(cast.bob)
        welcome = "/" + link.split("/", 3)[3]
        for name, address in (("sign in", "/accounts/login/"), ("dead link", "/welcome/nothing/"), ("link", welcome)):
            yield name, window.open(address)
        page = window.open(unsubscribe)
        yield "unsubscribing", page
        page.click("main button")
        yield "unsubscribed", page
        page.click("main button")
        yield "subscribed again", page
        yield "unsubscribing, cut off", window.open("/unsubscribe/nothing/")
        page = window.open("/api/v1/docs")
        page.evaluate("document.querySelectorAll('details').forEach((one, place) => { one.open = place % 5 === 0; })")
        yield "API", page
        yield "guide", window.open("/guide/reading-a-bounce/")
        page = window.open("/accounts/login/")
        page.fill("#email", "nobody@acme.example")
        page.fill("#password", "wrong")
        page.click("button.btn-primary")
        page.wait_for_selector("#refusal")
        yield "sign in, refused", page
        window.sign_in("alice@acme.example")
        for name, address in (
            ("log", "/t/acme/messages/"),
            ("log, narrowed", "/t/acme/messages/?state=bounced&class=policy&recipient=example"),
            ("log, nothing", "/t/acme/messages/?recipient=zzz"),
            ("headers", f"{path}?view=headers"),
            ("preview", f"{path}?view=preview"),
            ("identifiers", f"{path}?view=identifiers"),
            ("send again", f"{path}again/"),
            ("rejections", "/t/acme/rejections/"),
            ("start", "/t/acme/start/"),
            ("domains, none", "/t/acme/domains/"),
            ("domain, add", "/t/acme/domains/add/"),
            ("credentials, none", "/t/acme/credentials/"),
            ("credential, kinds", "/t/acme/credentials/issue/"),
            ("credential, network", "/t/acme/credentials/issue/?kind=network"),
            ("tenants", "/tenants/"),
            ("not found", "/t/acme/nowhere/"),
        ):
            yield name, window.open(address)
        page = window.open("/t/acme/domains/add/")
        page.fill("#id_name", "co.jp")
        page.click("button.btn-primary")
        page.wait_for_selector("#id_name_error")
        yield "domain, refused", page
        page.fill("#id_name", "acme.example")
        page.click("button.btn-primary")
        page.wait_for_selector("#state")
        yield "domain", page
        page = window.open("/t/acme/credentials/issue/?kind=api")
        page.fill("#id_name", "shop")
        page.click("button.btn-primary")
        page.wait_for_selector("#secret")
        yield "credential, secret", page
        page.click("p.rw-section a.btn-primary")
        page.wait_for_url(lambda url: not url.endswith("/secret/"))
        credential = page.url.removeprefix(window.base)
        yield "credential", page
        for name, address in (
            ("domains", "/t/acme/domains/"),
            ("domain, handed on", "/t/acme/domains/acme.example/hand-on/"),
            ("domain, remove", "/t/acme/domains/acme.example/remove/"),
            ("credentials", "/t/acme/credentials/"),
            ("credential, rotate", f"{credential}rotate/"),
            ("credential, revoke", f"{credential}revoke/"),
        ):
            yield name, window.open(address)
        for name, address in webhooks:
            yield name, window.open(address)
        page = window.open("/t/acme/messages/")
        page.click("details.rw-pick summary")
        yield "log, menu open", page
        page = window.open(path)
        # A menu lies over what is below it; the log's, above, is looked at by itself.
        page.evaluate("document.querySelectorAll('details:not(.rw-menu)').forEach(details => { details.open = true; })")
        yield "message", page
        window.context.clear_cookies()
        window.sign_in("charlie@globex.example")
        yield "log, unused", window.open("/t/globex/messages/")
        yield "webhooks, none", window.open("/t/globex/webhooks/")
        window.context.clear_cookies()
        window.sign_in("olivia@relay.example")
        yield "operator", window.open("/operator/")

    return visit


@pytest.fixture
def pages_of_people(cast: Cast) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    """Joining, oneself, the team, and what was changed."""
    owner = Membership.objects.get(user=cast.alice)
    for email in (f"{'d' * 60}@{'e' * 60}.example", "dora@acme.example"):
        made = invitations.invite(cast.acme, email=email, role="analyst", by=owner, actor=Actor.person(cast.alice))
    member = Membership.objects.get(user=cast.bob)
    User.objects.filter(pk=cast.bob.pk).update(name="山田 " + "太郎" * 30)
    notices.raise_notice(cast.acme, NoticeKind.PAUSED, data={"reason": "spam traps"})
    notices.raise_notice(cast.acme, NoticeKind.LEVEL_UP, data={"old": 200, "new": 1000})
    trust.begin(cast.acme, actor=Actor.system("test"))
    cast.globex.awaits_approval = True
    cast.globex.save()
    archive = jobs.ask_for_archive(cast.acme, actor=Actor.person(cast.alice))
    jobs.work()
    secret = factors.new_secret()
    step = int(time.time()) // factors.STEP_SECONDS - 1
    factors.set_one_time_password(cast.charlie, secret, factors.code_at(secret, step), actor=Actor.person(cast.charlie))
    Passkey.objects.create(user=cast.alice, name="phone <b>", credential_id=b"1", credential_data=b"")

    def visit(window: Any) -> Iterator[tuple[str, Any]]:
        for name, address in (
            ("sign up", "/accounts/signup/"),
            ("reset", "/accounts/reset/"),
            ("join", "/" + invitations.link_of(made).split("/", 3)[3]),
            ("join, dead", "/join/nothing/"),
            ("confirm, dead", "/accounts/confirm/nothing/"),
        ):
            yield name, window.open(address)
        page = window.open("/accounts/signup/")
        page.fill("#id_email", "no address")
        page.fill("#password", "short")
        page.click("button.btn-primary")
        page.wait_for_selector("#id_email_error")
        yield "sign up, refused", page
        page.fill("#id_email", "new@acme.example")
        page.fill("#password", PASSWORD)
        page.click("button.btn-primary")
        page.wait_for_url("**/accounts/verify/")
        yield "verify", page
        page = window.open("/accounts/reset/")
        page.fill("#email", "nobody@acme.example")
        page.click("button.btn-primary")
        page.wait_for_selector("p.rw-ways a[href='/accounts/reset/']")
        yield "reset, sent", page
        window.open("/accounts/login/")
        page.fill("#email", "charlie@globex.example")
        page.fill("#password", PASSWORD)
        page.click("button.btn-primary")
        page.wait_for_selector("#code")
        yield "second factor", page
        window.context.clear_cookies()
        window.sign_in("alice@acme.example")
        for name, address in (
            ("oneself", "/me/"),
            ("security", "/me/security/"),
            ("app", "/me/security/app/"),
            ("passkey", "/me/security/passkeys/add/"),
            ("address", "/me/email/"),
            ("password", "/me/password/"),
            ("prove", "/accounts/prove/"),
            ("new tenant", "/tenants/new/"),
            ("team", "/t/acme/team/"),
            ("invite", "/t/acme/team/invite/"),
            ("role", f"/t/acme/team/{member.id}/role/"),
            ("remove", f"/t/acme/team/{member.id}/remove/"),
            ("transfer", "/t/acme/team/transfer/"),
            ("settings", "/t/acme/settings/"),
            ("close", "/t/acme/settings/close/"),
            ("export of everything", "/t/acme/settings/export/"),
            ("export of everything, done", f"/t/acme/messages/jobs/{archive.pk}/"),
            ("notices", "/t/acme/notices/"),
            ("notice choices", "/t/acme/notices/choices/"),
            ("audit", "/t/acme/audit/"),
            ("audit, nothing", "/t/acme/audit/?person=zzz"),
        ):
            yield name, window.open(address)
        window.context.clear_cookies()
        window.sign_in("olivia@relay.example")
        yield "approvals", window.open("/operator/approvals/")

    return visit


@pytest.fixture
def pages_of_operations(cast: Cast) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    """Where mail leaves from, how fast, what drives it, and whose it is."""
    operator = Actor.person(cast.olivia)
    first, *others = sources.add_sources(
        "2001:db8:ffff:ffff:ffff:ffff:ffff:fff0-2001:db8:ffff:ffff:ffff:ffff:ffff:fff4",
        ehlo_name="mx-{ip}." + "long." * 20 + "relay.example",
        note="ラック 3 " + "x" * 200,
        node="tokyo-1",
        actor=operator,
    )
    SourceAddress.objects.filter(pk=first.pk).update(state="unusable", state_reason="cannot bind " + "x" * 300)
    dedicated = pools.add_pool("acme-dedicated-" + "x" * 30, kind="dedicated", tenant=cast.acme, actor=operator)
    pools.assign_pool(Stream.objects.of(cast.acme)[0], dedicated, actor=operator)
    write_message(cast.acme, Fate(address="a@docomo.ne.jp", state="queued", group="docomo"))
    group = ProviderGroup.objects.get(key="docomo")
    DeliveryPath.objects.create(source=first, group=group, pace_share=0.125, pace_reason="r" * 80)
    parked = write_message(cast.acme, Fate(address="b@docomo.ne.jp", state="held", group="docomo", reason="poison"))
    QueueEntry.objects.filter(message_id=parked.id).update(held_reason="poison", losses=3)
    figures = {"paths": 12, "in_flight": 345, "connections": 67}
    Worker.objects.create(
        slot="tokyo-1/worker-1", incarnation=parked.id, node=first.node, part="worker", pid=1, version="1.0",
        heartbeat_at=timezone.now(), figures=figures,
    )  # fmt: skip
    tenants.suspend_tenant(cast.globex, reason="z" * 300, actor=operator)
    cast.acme.awaits_approval = True
    cast.acme.name = "株式会社 " + "x" * 100
    cast.acme.save()
    throttles.suspend_path(others[0], group, length=timedelta(hours=3), reason="y" * 300, actor=operator)

    target, cause = read_target(f"{'t' * 60}@{'r' * 60}.example"), Cause(SuppressionReason.MANUAL, detail="d" * 300)
    suppressions.add(suppressions.Owner(), target, cause, actor=operator)
    stand_with_receivers(others[1], group, operator)
    silent = {f"{'n' * 60}-{n}": {"part": "worker", "since": timezone.now().isoformat()} for n in range(3)}
    episodes.watch({"worker_silent": Found(silent)})
    alert = Alert.objects.order_by("id")[0]
    episodes.acknowledge(alert, note="w" * 300, actor=operator)
    episodes.mute(alert, until=timezone.now() + timedelta(days=1), reason="m" * 300, actor=operator)

    brake = braked_and_scored(cast)
    login = credentials.issue_credential(cast.acme, kind="smtp", name="shop", actor=operator).credential
    told = b"domain,date,userReportedSpamRatio,domainReputation\nacme.example,%s,0.4%%,LOW\n" + b"x" * 300
    today = timezone.now().date().isoformat().encode()
    brought = provider_imports.take_up(told % today, file_name="f" * 200 + ".csv", actor=operator)

    def visit(window: Any) -> Iterator[tuple[str, Any]]:
        window.sign_in("alice@acme.example")
        for name, address in (
            ("overview, braked", "/t/acme/"),
            ("own brakes", "/t/acme/brakes/"),
            ("own brake", f"/t/acme/brakes/{brake.pk}/"),
            ("domain, scored", "/t/acme/domains/acme.example/"),
        ):
            yield name, window.open(address)
        window.context.clear_cookies()
        window.sign_in("olivia@relay.example")
        for name, address in (
            ("alerts", "/operator/alerts/"),
            ("alerts, past", "/operator/alerts/?show=past"),
            ("alert", f"/operator/alerts/{alert.pk}/"),
            ("standing", "/operator/standing/"),
            ("standing, nothing", "/operator/standing/?q=zzz"),
            ("standing, one", f"/operator/standing/{others[1].pk}/{group.pk}/"),
            ("warm-up, start", f"/operator/standing/{others[1].pk}/{group.pk}/start/"),
            ("checks", f"/operator/sources/{others[1].pk}/checks/"),
            ("suppressions for everybody", "/operator/suppressions/"),
            ("suppressions for everybody, add", "/operator/suppressions/add/"),
            ("sources", "/operator/sources/"),
            ("sources, nothing", "/operator/sources/?q=zzz"),
            ("source", f"/operator/sources/{first.pk}/"),
            ("source, add", "/operator/sources/add/"),
            ("source, retire", f"/operator/sources/{first.pk}/retire/"),
            ("source, drain", f"/operator/sources/{first.pk}/drain/"),
            ("pools", "/operator/pools/"),
            ("pool", f"/operator/pools/{dedicated.name}/"),
            ("throttles", "/operator/throttles/"),
            ("throttles, nothing", "/operator/throttles/?provider=zzz"),
            ("throttle", f"/operator/throttles/{first.pk}/{group.pk}/"),
            ("throttle, suspend", f"/operator/throttles/{first.pk}/{group.pk}/suspend/"),
            ("throttle, limits", f"/operator/throttles/limits/{group.pk}/"),
            ("queue", "/operator/queue/"),
            ("nodes", "/operator/nodes/"),
            ("node, drain", "/operator/nodes/tokyo-1/drain/"),
            ("operated tenants", "/operator/tenants/"),
            ("operated tenants, nothing", "/operator/tenants/?q=zzz"),
            ("operated tenant", "/operator/tenants/acme/"),
            ("operated tenant, credentials", "/operator/tenants/acme/credentials/"),
            ("operated tenant, pool of a credential", f"/operator/tenants/acme/credentials/{login.pk}/pool/"),
            ("operated tenant, score", "/operator/tenants/acme/score/"),
            ("operated domain", "/operator/tenants/acme/domains/acme.example/"),
            ("brakes", "/operator/brakes/"),
            ("brake", f"/operator/brakes/{brake.pk}/"),
            ("brake, release", f"/operator/brakes/{brake.pk}/release/"),
            ("operators' audit", "/operator/audit/"),
            ("provider data", "/operator/provider-data/"),
            ("provider import", f"/operator/provider-data/{brought.pk}/"),
            ("operated tenant, pause", "/operator/tenants/acme/suspend/"),
        ):
            yield name, window.open(address)

    return visit


def braked_and_scored(cast: Cast) -> Brake:
    """A brake with evidence and a request for release; a tenant and a domain with a score and its history."""
    domain = domains.add_domain(cast.acme, "acme.example", actor=Actor.person(cast.olivia), assume_verified=True)
    key, reply = str(cast.acme.pk), "550 5.1.1 " + "x" * 190
    sample = {"recipient": key, "message": key, "domain": "far.test", "class": "bad_mailbox", "reply": reply}
    evidence = {
        "bad": 1_234, "total": 12_345, "percent": 10.0, "threshold_percent": 10.0, "since": timezone.now().isoformat(),
        "classes": [["bad_mailbox", 1_234]], "samples": [{**sample, "masked_reply": reply}],
    }  # fmt: skip
    brake = Brake.objects.create(tenant=cast.acme, rule="bounces", step="hold", evidence=evidence, pulled_by="brakes")
    pulling.appeal(brake, "お願い " + "x" * 400, actor=Actor.person(cast.alice))
    terms = [{"name": "unknown", "value": 0.1, "factor": 0.3, "costs": 50.0}]
    terms.append({"name": "age", "value": 0.25, "factor": 0.8, "costs": 10.0})
    counts = {"accepted": 123_456, "unknown": 12_345}
    for owner in (None, domain):
        for days in range(5):
            SenderScore.objects.create(
                tenant=cast.acme, domain=owner, scored_at=timezone.now() - timedelta(days=days, minutes=1),
                score=30 + days, cap=40, cap_reason="" if owner else "brake_hold", terms=terms,
                figures=dict.fromkeys(("24", "168", "720"), counts),
            )  # fmt: skip
    return brake


def stand_with_receivers(source: SourceAddress, group: ProviderGroup, operator: Actor) -> None:
    """A score with its history, a warm-up, and checks that found something."""
    DeliveryPath.objects.create(source=source, group=group)
    plans.start(source, actor=operator, group_keys=[group.key], target=50_000)
    plans.set_stage(source, group.key, stage=4, reason="v" * 150, actor=operator)
    counts = {"accepted": 123_456, "blocked": 789, "unknown": 1_234, "complaints": 12}
    terms = [
        {"name": name, "value": 0.0123, "factor": 0.8, "costs": cost}
        for name, cost in (("blocked", 12.3), ("unknown", 4.5), ("complaints", 0.0))
    ]
    terms.append({"name": "age", "value": 0.25, "factor": 0.5, "costs": 30.0})
    for days in range(10):
        ReputationScore.objects.create(
            source=source, group=group, scored_at=timezone.now() - timedelta(days=days, minutes=1), score=40 + 3 * days,
            cap=40, cap_reason="reverse_dns", terms=terms,
            figures=dict.fromkeys(("24", "168", "720"), counts),
        )  # fmt: skip
    results = [
        {
            "check": check,
            "verdict": verdict,
            "detail": "d" * 200,
            "found": ["127.0.0.2"],
            "severity": severity,
            "look_up": look_up,
        }
        for check, verdict, severity, look_up in (
            ("reverse_dns", "bad", None, ""),
            ("ehlo", "ok", None, ""),
            ("spf", "failed", None, ""),
            ("blocklist:spamhaus_zen", "bad", "severe", "https://check.spamhaus.org/"),
            ("blocklist:spamcop", "failed", None, ""),
        )
    ]
    SourceCheck.objects.create(source=source, state="bad", results=results)


@in_each_look
@pytest.mark.parametrize("which", ["pages", "pages_of_people", "pages_of_operations"])
def test_every_page_is_accessible(
    which: str, language: str, theme: str, width: int, window: Any, request: pytest.FixtureRequest
) -> None:
    pages, problems = request.getfixturevalue(which), []
    for name, page in pages(window(language, theme, width)):
        problems += problems_of(page, name, language=language, width=width)

    assert problems == []


def problems_of(page: Any, name: str, *, language: str, width: int) -> list[str]:
    """What is wrong with a page as it stands in the window, a sentence each."""
    problems = []
    if is_turn_of_axe(name, language):
        page.evaluate(AXE)
        problems += [f"{name}: {problem}" for problem in page.evaluate(RUN_AXE, TAGS)]
    if page.evaluate(IS_WIDER_THAN_THE_WINDOW):
        problems.append(f"{name}: scrolls sideways")
    if page.locator("h1").count() != 1:
        problems.append(f"{name}: not one h1")
    if page.locator("html").get_attribute("lang") != language:
        problems.append(f"{name}: wrong language")
    if language == "ja":
        problems += [f"{name}: not set as Japanese: {odd}" for odd in page.evaluate(SPACED_SLANTED_UPPER_CASED)]
    if width == 360:
        problems += [f"{name}: too small: {small}" for small in page.evaluate(TOO_SMALL_FOR_A_THUMB)]
        # 1280 px at 400 % leave 320 px.
        page.set_viewport_size({"width": 320, "height": 256})
        if page.evaluate(IS_WIDER_THAN_THE_WINDOW):
            problems.append(f"{name}: scrolls sideways at 400 %")
        page.set_viewport_size({"width": 360, "height": 740})
    return problems
