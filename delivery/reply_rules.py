"""Rules about replies that operators keep: added, reordered, switched off, removed and restored while everything runs.

Engines take a change up within seconds. Every rule is checked before it is saved (delivery.core.live_rules), and what it
changes about the replies we have samples of is told first. Every change is in the audit log.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery.core.live_rules import (
    MAX_PATTERN_CHARACTERS,
    MAX_RULES,
    ChangedSample,
    Draft,
    LiveRules,
    RuleFault,
    changed_samples,
    check_sample,
    compile_rule,
)
from delivery.models import ReplyRule, UnmatchedReply
from delivery.queue import wake

RESTORABLE = timedelta(days=30)
UNMATCHED_KEPT = timedelta(days=30)


# ---------------------------------------------------------------- reading


def in_force() -> LiveRules:
    """As engines ask them. A rule that cannot be used any more is left out."""
    return _compiled(draft_of(row) for row in rules() if row.is_enabled)


def rules() -> list[ReplyRule]:
    """All that are not removed, in the order in which they are asked."""
    return list(ReplyRule.objects.filter(removed_at=None).order_by("position", "id"))


def removed_rules() -> list[ReplyRule]:
    """Those that can be restored, the last removed first."""
    return list(ReplyRule.objects.filter(removed_at__gt=timezone.now() - RESTORABLE).order_by("-removed_at"))


def find_rule(name: str, *, is_removed: bool = False) -> ReplyRule:
    """Raises NotFound."""
    rule = ReplyRule.objects.filter(name=name, removed_at__isnull=not is_removed).first()
    if rule is None:
        raise NotFound(_("There is no rule %(name)s.") % {"name": name[:60]}, field="name")
    return rule


def draft_of(rule: ReplyRule) -> Draft:
    return Draft(
        name=rule.name,
        groups=tuple(rule.groups),
        phases=tuple(rule.phases),
        codes=tuple(rule.codes),
        enhanced=tuple(rule.enhanced),
        text=rule.text,
        reply_class=rule.reply_class,
        action=rule.action,
        scope=rule.scope,
        sample=rule.sample,
        note=rule.note,
    )


def effect_of(draft: Draft, *, instead_of: ReplyRule | None = None) -> list[ChangedSample]:
    """Check a rule, and tell which known replies it would decide otherwise. Raises Refused."""
    try:
        before, after = _before_and_after(draft, instead_of)
    except RuleFault as fault:
        raise refusal_of(fault) from None
    return changed_samples(before, after)


def _before_and_after(draft: Draft, instead_of: ReplyRule | None) -> tuple[LiveRules, LiveRules]:
    """A new rule comes first. Raises RuleFault."""
    present = in_force()
    rule = compile_rule(draft)
    if instead_of is None:
        after = LiveRules((rule, *present.rules))
    else:
        kept = [rule if one.name == instead_of.name else one for one in present.rules]
        after = LiveRules(tuple(kept))
    is_asked = any(one.name == rule.name for one in after.rules)
    check_sample(after if is_asked else LiveRules((rule,)), rule)
    return present, after


def _compiled(drafts: Any) -> LiveRules:
    found = []
    for draft in drafts:
        try:
            found.append(compile_rule(draft))
        except RuleFault:
            continue
    return LiveRules(tuple(found))


# ---------------------------------------------------------------- changing


def add_rule(draft: Draft, *, actor: Actor, unmatched: UnmatchedReply | None = None) -> ReplyRule:
    """It is asked before all others. Raises Refused."""
    effect_of(draft)
    with transaction.atomic():
        _lock()
        if ReplyRule.objects.filter(name=draft.name).exists():
            raise Refused(_("There is a rule of that name already."), reason="name_taken", field="name")
        if ReplyRule.objects.filter(removed_at=None).count() >= MAX_RULES:
            raise Refused(
                _("There are %(count)d rules already; remove one first.") % {"count": MAX_RULES},
                reason="too_many_rules",
            )
        first = ReplyRule.objects.order_by("position").values_list("position", flat=True).first()
        rule = ReplyRule.objects.create(
            **_fields(draft), position=(first or 0) - 1, created_by=actor.name[:254], changed_at=timezone.now()
        )
        if unmatched is not None:
            UnmatchedReply.objects.filter(pk=unmatched.pk).delete()
        _record(actor, "reply_rule.add", rule, after=_shown(rule))
        _tell_engines()
    return rule


def change_rule(rule: ReplyRule, draft: Draft, *, actor: Actor) -> ReplyRule:
    """Its name stays: what it decided is kept under it. Raises Refused."""
    draft = replace(draft, name=rule.name)
    effect_of(draft, instead_of=rule)
    with transaction.atomic():
        before = _shown(rule)
        changed = ReplyRule.objects.filter(pk=rule.pk, removed_at=None).update(
            **_fields(draft), changed_at=timezone.now()
        )
        if not changed:
            raise NotFound(_("There is no rule %(name)s.") % {"name": rule.name}, field="name")
        rule.refresh_from_db()
        after = _shown(rule)
        differing = {name for name in after if after[name] != before[name]}
        _record(
            actor,
            "reply_rule.change",
            rule,
            before={name: before[name] for name in differing},
            after={name: after[name] for name in differing},
        )
        _tell_engines()
    return rule


def set_enabled(rule: ReplyRule, is_enabled: bool, *, actor: Actor) -> bool:
    """False where it was so already."""
    with transaction.atomic():
        changed = ReplyRule.objects.filter(pk=rule.pk, removed_at=None, is_enabled=not is_enabled).update(
            is_enabled=is_enabled, changed_at=timezone.now()
        )
        if changed:
            word = "enable" if is_enabled else "disable"
            _record(actor, f"reply_rule.{word}", rule)
            _tell_engines()
    return bool(changed)


def move_rule(rule: ReplyRule, *, to: int, actor: Actor) -> None:
    """Ask it as number ``to`` of all, from 1; beyond the ends means the ends."""
    with transaction.atomic():
        _lock()
        order = rules()
        names = [one.name for one in order]
        if rule.name not in names:
            raise NotFound(_("There is no rule %(name)s.") % {"name": rule.name}, field="name")
        was = names.index(rule.name)
        order.insert(max(0, to - 1), order.pop(was))
        if [one.name for one in order] == names:
            return
        for position, one in enumerate(order):
            one.position = position
        ReplyRule.objects.bulk_update(order, ["position"])
        _record(actor, "reply_rule.move", rule, before={"place": was + 1}, after={"place": order.index(rule) + 1})
        _tell_engines()


def remove_rule(rule: ReplyRule, *, actor: Actor) -> None:
    """It can be restored for ``RESTORABLE``. Raises NotFound."""
    with transaction.atomic():
        changed = ReplyRule.objects.filter(pk=rule.pk, removed_at=None).update(removed_at=timezone.now())
        if not changed:
            raise NotFound(_("There is no rule %(name)s.") % {"name": rule.name}, field="name")
        _record(actor, "reply_rule.remove", rule, before=_shown(rule))
        _tell_engines()


def restore_rule(rule: ReplyRule, *, actor: Actor) -> None:
    """Take a removal back, at its old place. Raises Refused."""
    with transaction.atomic():
        changed = ReplyRule.objects.filter(pk=rule.pk, removed_at__gt=timezone.now() - RESTORABLE).update(
            removed_at=None, changed_at=timezone.now()
        )
        if not changed:
            raise Refused(_("It is not removed, or was removed too long ago."), reason="not_restorable")
        _record(actor, "reply_rule.restore", rule, after=_shown(rule))
        _tell_engines()


def forget_old(*, now: datetime | None = None) -> int:
    moment = now or timezone.now()
    removed = ReplyRule.objects.filter(removed_at__lt=moment - RESTORABLE).delete()[0]
    return removed + UnmatchedReply.objects.filter(last_at__lt=moment - UNMATCHED_KEPT).delete()[0]


# ---------------------------------------------------------------- replies that no rule knew


def unmatched(*, with_ignored: bool = False, limit: int = 200) -> list[UnmatchedReply]:
    """Grouped by what they say, the most frequent first."""
    found = UnmatchedReply.objects.all() if with_ignored else UnmatchedReply.objects.filter(ignored_at=None)
    return list(found.order_by("-count", "id")[:limit])


def find_unmatched(key: int) -> UnmatchedReply:
    """Raises NotFound."""
    found = UnmatchedReply.objects.filter(pk=key).first()
    if found is None:
        raise NotFound(_("There is no such group of replies."), field="id")
    return found


def ignore_unmatched(group: UnmatchedReply, *, reason: str, actor: Actor) -> None:
    """Leave a group out of the list; why is asked. Raises Refused."""
    if not reason.strip():
        raise Refused(_("Say why it is ignored."), reason="reason_missing", field="reason")
    with transaction.atomic():
        UnmatchedReply.objects.filter(pk=group.pk).update(
            ignored_at=timezone.now(), ignored_by=actor.name[:254], ignored_reason=reason.strip()[:500]
        )
        _record_group(actor, "unmatched_reply.ignore", group, reason=reason.strip())


def heed_unmatched(group: UnmatchedReply, *, actor: Actor) -> None:
    """Take that back."""
    with transaction.atomic():
        if UnmatchedReply.objects.filter(pk=group.pk, ignored_at__isnull=False).update(
            ignored_at=None, ignored_by="", ignored_reason=""
        ):
            _record_group(actor, "unmatched_reply.heed", group)


# ---------------------------------------------------------------- words


def refusal_of(fault: RuleFault) -> Refused:
    """In the words of the person who asks."""
    sentences = {
        ("name", "malformed"): _("Small letters, digits and single hyphens, such as acme-quota."),
        ("name", "taken"): _("That name is taken by the product."),
        ("text", "fits_everything"): _("The rule would fit every reply: give codes, a status or words."),
        ("text", "too_long"): _("A pattern has at most %(count)d characters.") % {"count": MAX_PATTERN_CHARACTERS},
        ("text", "too_costly"): _("The pattern would take too long to search: repeat less, or ask for fewer words."),
        ("text", "pattern"): _("This is no regular expression of RE2: %(error)s.") % {"error": fault.detail},
        ("codes", "malformed"): _("%(word)s is no reply code, such as 550, or the beginning of one, such as 45."),
        ("enhanced", "malformed"): _("%(word)s is no enhanced status, such as 5.1.1, x.7.26, 5.7.* or 5.7.606-649."),
        ("phases", "phase"): _("There is no phase %(word)s."),
        ("sample", "phase"): _("There is no phase %(word)s."),
        ("sample", "malformed"): _("A sample is a phase and a reply, such as: rcpt 550 5.1.1 no such user"),
        ("sample", "does_not_fit"): _("The rule does not fit its own sample."),
        ("sample", "decided_elsewhere"): _("The sample is decided by the rule %(word)s, which is asked before."),
    }
    sentence = sentences.get((fault.field, fault.reason), _("This word is not known here."))
    if "%(word)s" in sentence:
        sentence = sentence % {"word": fault.detail[:60]}
    return Refused(sentence, reason=f"rule_{fault.reason}", field=fault.field)


# ---------------------------------------------------------------- small parts


def _fields(draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "groups": list(draft.groups),
        "phases": list(draft.phases),
        "codes": list(draft.codes),
        "enhanced": list(draft.enhanced),
        "text": draft.text,
        "reply_class": draft.reply_class,
        "action": draft.action,
        "scope": draft.scope,
        "note": draft.note[:500],
        "sample": draft.sample[:1000],
    }


def _shown(rule: ReplyRule) -> dict[str, Any]:
    return {**_fields(draft_of(rule)), "is_enabled": rule.is_enabled}


def _lock() -> None:
    """Places are given one after the other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('relay reply rules'))")


def _record(actor: Actor, action: str, rule: ReplyRule, **more: Any) -> None:
    audit.record(actor, action, object_id=rule.pk, object_name=rule.name, **more)


def _record_group(actor: Actor, action: str, group: UnmatchedReply, **more: Any) -> None:
    audit.record(actor, action, object_id=group.pk, object_name=group.text[:255], **more)


def _tell_engines() -> None:
    with connection.cursor() as cursor:
        cursor.execute(wake.RING, [wake.PATHS])
