"""The words of notices: one heading and sentence each, the same in the console and in the letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Notice, NoticeKind, User
from delivery.brakes import pulling
from delivery.models import Brake
from relayweb.console import moments
from relayweb.console.access import in_clock_of
from relayweb.console.words import Text
from relayweb.letters import Letter


@dataclass(frozen=True, slots=True)
class Words:
    """``page`` is the name of the page where something can be done; ids that it needs are among the notice's figures."""

    heading: Text
    sentence: Text
    tone: str
    icon: str
    page: str
    move: Text


WORDS: dict[NoticeKind, Words] = {
    NoticeKind.LIMIT_NEAR: Words(
        _("80 % of your limit used"),
        _("{used} of {limit} recipients for {period}. At 100 % new mail is put off; nothing is lost."),
        "retry", "alert-triangle", "settings", _("See the limits"),
    ),
    NoticeKind.LIMIT_REACHED: Words(
        _("Limit reached"),
        _(
            "{used} of {limit} recipients for {period}. New mail is put off (450 / 429); nothing is lost as long as your "
            "side tries again. What was taken goes on."
        ),
        "fail", "hourglass-off", "settings", _("See the limits"),
    ),
    NoticeKind.DOMAIN_FAILING: Words(
        _("A record of “{domain}” is missing"),
        _("Since {since}. If it does not come back within three days, new mail from this domain is refused."),
        "retry", "world", "domains", _("See the domain"),
    ),
    NoticeKind.DOMAIN_LAPSED: Words(
        _("“{domain}” is no longer verified"),
        _("A needed record has been missing since {since}. New mail is refused, and open mail is held until it is back."),
        "fail", "world", "domains", _("See the domain"),
    ),
    NoticeKind.BOUNCES_RISING: Words(
        _("Bounces are rising"),
        _("{percent} % in 24 hours ({count} of {total}). Receiving hosts lose patience at 5 %: look which addresses they are."),
        "fail", "circle-x", "messages", _("See the mail"),
    ),
    NoticeKind.COMPLAINTS_RISING: Words(
        _("Complaints are rising"),
        _(
            "{percent} % in 24 hours ({count} of {total}). Receiving hosts lose patience at 0.1 %: write only to those who "
            "asked for it."
        ),
        "fail", "flag", "messages", _("See the mail"),
    ),
    NoticeKind.PAUSED: Words(
        _("Sending is paused for this tenant"),
        _("Reason: {reason}. What was taken is kept; new mail is put off (450). Tell the operator what you have mended."),
        "hold", "player-pause", "brakes", _("See why, and ask for release"),
    ),
    NoticeKind.SLOWED: Words(
        _("We have slowed your mail"),
        _("Because of {why}. It goes on more slowly, until it is clean again. No mail is lost."),
        "retry", "clock", "brake", _("See the figures"),
    ),
    NoticeKind.MAIL_HELD: Words(
        _("Your mail is held"),
        _(
            "Of {whose}, because of {why}. If it is a credential, it may have leaked: if this was not you, revoke it; if it "
            "was, mend the cause and ask for release. New mail is taken and held; nothing is lost."
        ),
        "hold", "player-pause", "brake", _("See why, and ask for release"),
    ),
    NoticeKind.BRAKE_RELEASED: Words(
        _("Sending goes on"),
        _("The operator has let a brake go; what was held is sent in turn. {answer}"),
        "ok", "circle-check", "brake", _("See the answer"),
    ),
    NoticeKind.APPEAL_REFUSED: Words(
        _("The brake stays pulled"),
        _("A person has read your request. {answer}"),
        "hold", "player-pause", "brake", _("See the answer"),
    ),
    NoticeKind.LEVEL_UP: Words(
        _("Your daily limit rose from {old} to {new}"),
        _("You have been sending without trouble."),
        "ok", "circle-check", "settings", _("See the limits"),
    ),
    NoticeKind.APPROVED: Words(
        _("Approved"),
        _("An operator has agreed: you can now add sending domains and write to everybody."),
        "ok", "circle-check", "domains", _("Add a domain"),
    ),
    NoticeKind.WEBHOOK_OFF: Words(
        _("Webhook “{name}” is switched off"),
        _(
            "No good answer since {since} (last: {last}). Mail is sent as before. Events are kept for {days} days: enable "
            "the webhook, and they can be replayed."
        ),
        "fail", "player-stop", "webhook", _("See the webhook"),
    ),
}  # fmt: skip

PERIODS: dict[str, Text] = {"hour": _("this hour"), "day": _("today (UTC)"), "month": _("this month (UTC)")}


@dataclass(frozen=True, slots=True)
class Told:
    notice: Notice
    words: Words
    heading: str
    sentence: str
    path: str


def told(notice: Notice) -> Told:
    """In the language and the clock that are active."""
    words, values = WORDS[NoticeKind(notice.kind)], _values(notice.data)
    ids = {name: value for name, value in notice.data.items() if name.endswith("_id")}
    path = reverse(words.page, kwargs={"slug": notice.tenant.slug, **ids})
    return Told(notice, words, str(words.heading).format_map(values), str(words.sentence).format_map(values), path)


def letter_of(notice: Notice, person: User) -> Callable[[], Letter]:
    def word() -> Letter:
        with in_clock_of(person.time_zone or notice.tenant.time_zone):
            said = told(notice)
        heading = gettext("{heading} ({tenant})").format(heading=said.heading, tenant=notice.tenant.name)
        return Letter(heading, (said.sentence,), settings.PUBLIC_URL + said.path)

    return word


class _Values(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "?"


def _values(data: dict[str, Any]) -> _Values:
    values = _Values()
    if "rule" in data:
        values["why"] = pulling.sentence_of(Brake(rule=data["rule"], evidence=data, reason=data.get("reason", "")))
        values["whose"] = (
            gettext("the credential “{name}”").format(name=data["name"])
            if data.get("name")
            else gettext("the whole tenant")
        )
    for name, value in data.items():
        if name == "period":
            values[name] = str(PERIODS.get(value, value))
        elif name == "since" and (moment := parse_datetime(str(value))) is not None:
            values[name] = moments.written(moment, style="full")
        elif name in {"old", "new"} and value is None:
            values[name] = str(_("no limit"))
        elif isinstance(value, int):
            values[name] = f"{value:,}"
        else:
            values[name] = str(value)
    return values


KINDS: dict[NoticeKind, Text] = {
    NoticeKind.LIMIT_NEAR: _("80 % of a limit used"),
    NoticeKind.LIMIT_REACHED: _("A limit is reached"),
    NoticeKind.DOMAIN_FAILING: _("A record of a sending domain is missing"),
    NoticeKind.DOMAIN_LAPSED: _("A sending domain is no longer verified"),
    NoticeKind.BOUNCES_RISING: _("Bounces are rising"),
    NoticeKind.COMPLAINTS_RISING: _("Complaints are rising"),
    NoticeKind.PAUSED: _("Sending is paused"),
    NoticeKind.SLOWED: _("Mail is slowed"),
    NoticeKind.MAIL_HELD: _("Mail is held"),
    NoticeKind.BRAKE_RELEASED: _("A brake was let go"),
    NoticeKind.APPEAL_REFUSED: _("A request for release was answered"),
    NoticeKind.LEVEL_UP: _("The daily limit rose"),
    NoticeKind.APPROVED: _("The tenant was approved"),
    NoticeKind.WEBHOOK_OFF: _("A webhook was switched off"),
}
