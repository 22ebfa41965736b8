"""reply classify, reply rule …, reply unmatched …"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.live_rules import NO_LIVE_RULES, Draft, LiveRules
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up
from relayweb.commandline import output, surroundings

if TYPE_CHECKING:  # these need Django, which reading a reply does without
    from accounts.audit import Actor
    from delivery.models import ReplyRule

_CODE = re.compile(r"[2-5]\d\d(?:[ -]|$)")
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)")


class _WithDatabase(click.Command):
    """A verb that needs the database; the noun itself starts without Django."""

    def invoke(self, ctx: click.Context) -> Any:
        _open_database()
        return super().invoke(ctx)


class _Rules(click.Group):
    command_class = _WithDatabase


@click.group("reply")
def command() -> None:
    """What a reply of a receiving server means to us."""


@command.command("classify")
@click.option("--provider", default="", help="Key of the provider group, such as google or docomo.")
@click.option(
    "--phase", type=click.Choice([phase.value for phase in Phase]), default=Phase.EOD.value, show_default=True
)
@click.option(
    "--origin", type=click.Choice([origin.value for origin in Origin]), default=Origin.PEER.value, show_default=True
)
@click.option("--live", is_flag=True, help="Ask the operators' rules in the database too, as delivery workers do.")
@click.argument("text")
def classify_(provider: str, phase: str, origin: str, live: bool, text: str) -> None:
    """Class, action, scope and deciding rule of a reply, such as "550 5.1.1 user unknown"."""
    reply = _read(text, Phase(phase), Origin(origin))
    classification = _live_rules(live).classify(reply, provider)
    output.record(
        {
            "class": classification.reply_class.value,
            "action": classification.action.value,
            "scope": classification.scope.value,
            "rule": classification.rule,
        }
    )


def _live_rules(is_wanted: bool) -> LiveRules:
    if not is_wanted:
        return NO_LIVE_RULES
    _open_database()
    from delivery import reply_rules

    return reply_rules.in_force()


# ---------------------------------------------------------------- rules


@command.group("rule", cls=_Rules)
def rule_() -> None:
    """Rules about replies that count at once, before those of the product."""


def _draft_options(function: Any) -> Any:
    options = (
        click.option("--group", "groups", multiple=True, help="Key of a provider group; without one, all."),
        click.option("--phase", "phases", multiple=True, type=click.Choice([phase.value for phase in Phase])),
        click.option("--code", "codes", multiple=True, help="550, or the beginning of codes: 55."),
        click.option("--enhanced", multiple=True, help="5.1.1, x.7.26, 5.7.*, 5.7.606-649 or none."),
        click.option("--text", default="", help="Regular expression (RE2), searched in the normalised text."),
        click.option("--class", "reply_class", required=True, type=click.Choice([known.value for known in ReplyClass])),
        click.option("--action", required=True, type=click.Choice([known.value for known in Action])),
        click.option("--scope", required=True, type=click.Choice([known.value for known in Scope])),
        click.option("--sample", required=True, help='A phase and a reply that it decides: "rcpt 550 no such user".'),
        click.option("--note", default=""),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _draft(values: dict[str, Any]) -> Draft:
    fields: dict[str, Any] = dict(values)
    return Draft(**fields)


@rule_.command("add")
@click.argument("name")
@_draft_options
@click.option("--unmatched", type=int, help="Number of a group of `reply unmatched list` that it is made from.")
def add(unmatched: int | None, **values: Any) -> None:
    """Add a rule; it is asked before all others. Tells which known replies it decides from now on."""
    from delivery import reply_rules

    draft = _draft(values)
    group = reply_rules.find_unmatched(unmatched) if unmatched is not None else None
    effect = reply_rules.effect_of(draft)
    rule = reply_rules.add_rule(draft, actor=_actor(), unmatched=group)
    changed = [one.rule for one in effect if one.rule != draft.name]
    output.record({**_shape(rule), "place": _place(rule), "decides_instead_of": sorted(set(changed))})


@rule_.command("list")
@click.option("--removed", is_flag=True, help="Those that can be restored.")
def list_(removed: bool) -> None:
    """The rules in the order in which they are asked."""
    from delivery import reply_rules

    found = reply_rules.removed_rules() if removed else reply_rules.rules()
    rows = [{**_shape(rule), "place": place} for place, rule in enumerate(found, start=1)]
    columns = ("place", "name", "enabled", "groups", "codes", "text", "class", "action", "scope", "hits")
    output.rows(rows, columns, empty="There are no rules of your own.")


@rule_.command("show")
@click.argument("name")
def show(name: str) -> None:
    """One rule, whole."""
    from delivery import reply_rules

    rule = reply_rules.find_rule(name)
    output.record({**_shape(rule), "place": _place(rule)})


@rule_.command("move")
@click.argument("name")
@click.option(
    "--to", "place", required=True, type=click.IntRange(min=1), help="Its place from 1, which is asked first."
)
def move(name: str, place: int) -> None:
    """Ask a rule earlier or later."""
    from delivery import reply_rules

    rule = reply_rules.find_rule(name)
    reply_rules.move_rule(rule, to=place, actor=_actor())
    output.record({"name": name, "place": _place(rule)})


@rule_.command("enable")
@click.argument("name")
def enable(name: str) -> None:
    """Ask a rule again."""
    _switch(name, True)


@rule_.command("disable")
@click.argument("name")
def disable(name: str) -> None:
    """Leave a rule out for now."""
    _switch(name, False)


def _switch(name: str, is_enabled: bool) -> None:
    from delivery import reply_rules

    changed = reply_rules.set_enabled(reply_rules.find_rule(name), is_enabled, actor=_actor())
    output.record({"name": name, "enabled": is_enabled, "changed": changed})


@rule_.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove a rule; it can be restored for 30 days."""
    from delivery import reply_rules

    reply_rules.remove_rule(reply_rules.find_rule(name), actor=_actor())
    output.record({"name": name, "removed": True})


@rule_.command("restore")
@click.argument("name")
def restore(name: str) -> None:
    """Take a removal back."""
    from delivery import reply_rules

    rule = reply_rules.find_rule(name, is_removed=True)
    reply_rules.restore_rule(rule, actor=_actor())
    output.record({**_shape(reply_rules.find_rule(name)), "place": _place(rule)})


def _place(rule: ReplyRule) -> int:
    from delivery import reply_rules

    return [one.name for one in reply_rules.rules()].index(rule.name) + 1


def _shape(rule: ReplyRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "enabled": rule.is_enabled,
        "groups": rule.groups,
        "phases": rule.phases,
        "codes": rule.codes,
        "enhanced": rule.enhanced,
        "text": rule.text,
        "class": rule.reply_class,
        "action": rule.action,
        "scope": rule.scope,
        "hits": rule.hits,
        "last_hit_at": rule.last_hit_at,
        "sample": rule.sample,
        "note": rule.note,
        "created_at": rule.created_at,
        "created_by": rule.created_by,
    }


# ---------------------------------------------------------------- replies that no rule knew


@command.group("unmatched", cls=_Rules)
def unmatched_() -> None:
    """Replies that no rule knew, grouped by what they say."""


@unmatched_.command("list")
@click.option("--ignored", is_flag=True, help="With those that are ignored.")
@click.option("--limit", default=200, type=click.IntRange(1, 2000), show_default=True)
def unmatched_list(ignored: bool, limit: int) -> None:
    """The most frequent first; for 30 days after they were last seen."""
    from delivery import reply_rules

    rows = [
        {
            "id": group.pk,
            "count": group.count,
            "provider": group.group_key,
            "phase": group.phase,
            "text": group.text,
            "example": group.example,
            "first_at": group.first_at,
            "last_at": group.last_at,
            "ignored": group.ignored_reason or None,
        }
        for group in reply_rules.unmatched(with_ignored=ignored, limit=limit)
    ]
    output.rows(rows, ("id", "count", "provider", "phase", "text", "last_at"), empty="Every reply could be classified.")


@unmatched_.command("ignore")
@click.argument("number", type=int)
@click.option("--reason", required=True)
def unmatched_ignore(number: int, reason: str) -> None:
    """Leave a group out of the list."""
    from delivery import reply_rules

    reply_rules.ignore_unmatched(reply_rules.find_unmatched(number), reason=reason, actor=_actor())
    output.record({"id": number, "ignored": reason})


@unmatched_.command("heed")
@click.argument("number", type=int)
def unmatched_heed(number: int) -> None:
    """List a group again."""
    from delivery import reply_rules

    reply_rules.heed_unmatched(reply_rules.find_unmatched(number), actor=_actor())
    output.record({"id": number, "ignored": None})


# ---------------------------------------------------------------- small parts


def _open_database() -> None:
    surroundings.set_up_django()
    surroundings.open_database()


def _actor() -> Actor:
    from accounts.audit import Actor

    return Actor.command_line()


def _read(text: str, phase: Phase, origin: Origin = Origin.PEER) -> Reply:
    """A reply as people paste it. Raises click.UsageError."""
    lines = text.replace("\\n", "\n").strip().splitlines() or [""]
    if not _CODE.match(lines[0]):
        lines = _with_code(lines)
    reply = from_lines(phase, [line.encode() for line in lines])
    if origin == Origin.PEER:
        return reply
    return made_up(phase, reply.code, reply.enhanced, reply.text, origin)


def _with_code(lines: list[str]) -> list[str]:
    """A log may have kept only the enhanced status; its class says which kind of reply it was."""
    status = _ENHANCED.match(lines[0])
    if status is None:
        raise click.UsageError('A reply begins with its code, such as "550 5.1.1 user unknown".')
    return [f"{status[1]}50 {line}" for line in lines]
