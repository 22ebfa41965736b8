"""The operator's rules about replies: in order, tried on a pasted reply, made from replies that no rule knew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery import reply_rules
from delivery.core.classification import RULES, Action, Classification, ReplyClass, Rule, Scope, normalise_text
from delivery.core.live_rules import ChangedSample, Draft, LiveRules
from delivery.core.reply import Phase, Reply, from_lines
from delivery.models import ReplyRule, UnmatchedReply
from relayweb.console import class_words, words
from relayweb.console.access import operator_page
from relayweb.console.admin.rule_forms import (
    ACTION_LABELS,
    PHASES,
    SCOPE_LABELS,
    IgnoreForm,
    RuleForm,
    TryForm,
    provider_groups,
)
from relayweb.console.forms import tell, tell_refusal

MOST_CHANGES_SHOWN = 50
MOST_BUILT_IN_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a classification means, in the words that operators and customers read."""

    classification: Classification
    class_words: class_words.ClassWords
    action: words.Text
    scope: words.Text


@dataclass(frozen=True, slots=True)
class Line:
    rule: ReplyRule
    verdict: Verdict
    place: int


def verdict_of(found: Classification) -> Verdict:
    return Verdict(
        found, class_words.CLASSES[found.reply_class], ACTION_LABELS[found.action], SCOPE_LABELS[found.scope]
    )


# ---------------------------------------------------------------- rules


@operator_page
@require_safe
def rule_list(request: HttpRequest) -> HttpResponse:
    lines = [
        Line(rule, verdict_of(_classification(rule)), place) for place, rule in enumerate(reply_rules.rules(), start=1)
    ]
    context = {
        "section": "rules",
        "lines": lines,
        "removed": reply_rules.removed_rules(),
        "built_in": len(RULES),
        "unmatched": UnmatchedReply.objects.filter(ignored_at=None).count(),
    }
    return render(request, "console/admin/rules/list.html", context)


@operator_page
@require_safe
def built_in(request: HttpRequest) -> HttpResponse:
    """The rules that the product brings along, in the order in which they are asked; nothing can be changed here."""
    wanted = request.GET.get("q", "").strip().lower()[:100]
    group = request.GET.get("group", "")
    found = [
        rule
        for rule in RULES
        if (not group or group in rule.groups)
        and (not wanted or any(wanted in text for text in (rule.id, *_searched(rule))))
    ]
    context = {
        "section": "rules",
        "lines": [(rule, verdict_of(rule.classification)) for rule in found],
        "total": len(RULES),
        "q": wanted,
        "group": group,
        "groups": [(key, title) for key, title in provider_groups() if any(key in rule.groups for rule in RULES)],
    }
    return render(request, "console/admin/rules/built_in.html", context)


def _searched(rule: Rule) -> list[str]:
    return [rule.text.pattern if rule.text else "", rule.classification.reply_class, *map(str.lower, rule.samples)]


def _classification(rule: ReplyRule) -> Classification:
    return Classification(ReplyClass(rule.reply_class), Action(rule.action), Scope(rule.scope), rule.name)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    group = _unmatched(request)
    form = RuleForm(request.POST or None, initial=_initial(group) | _from_reply(request))
    changes: list[ChangedSample] = []
    if request.method == "POST" and form.is_valid():
        draft = form.draft()
        try:
            changes = _unconfirmed(request, draft, reply_rules.effect_of(draft))
            if not changes:
                rule = reply_rules.add_rule(draft, actor=_actor(request), unmatched=group)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            if not changes:
                tell(request, gettext("The rule “{name}” counts from now on.").format(name=rule.name))
                return redirect("operator-rules")
    return _render_form(request, form, changes, group=group)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    rule = _found(name)
    draft = reply_rules.draft_of(rule)
    initial = {field: getattr(draft, field) for field in RuleForm.base_fields if field != "name"}
    form = RuleForm(request.POST or None, initial=initial, is_new=False)
    changes: list[ChangedSample] = []
    if request.method == "POST" and form.is_valid():
        draft = form.draft(rule.name)
        try:
            changes = _unconfirmed(request, draft, reply_rules.effect_of(draft, instead_of=rule))
            if not changes:
                reply_rules.change_rule(rule, draft, actor=_actor(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            if not changes:
                tell(request, gettext("The rule “{name}” counts from now on.").format(name=rule.name))
                return redirect("operator-rules")
    return _render_form(request, form, changes, rule=rule)


def _unconfirmed(request: HttpRequest, draft: Draft, effect: list[ChangedSample]) -> list[ChangedSample]:
    """What the rule changes beside its own sample, unless that was shown and agreed to."""
    others = [one for one in effect if one.rule != draft.name]
    return [] if request.POST.get("agreed") == str(len(others)) else others


def _render_form(
    request: HttpRequest,
    form: RuleForm,
    changes: list[ChangedSample],
    *,
    rule: ReplyRule | None = None,
    group: UnmatchedReply | None = None,
) -> HttpResponse:
    context = {
        "section": "rules",
        "form": form,
        "rule": rule,
        "group": group,
        "changes": [(one, verdict_of(one.before), verdict_of(one.after)) for one in changes[:MOST_CHANGES_SHOWN]],
        "agreed": len(changes),
    }
    return render(request, "console/admin/rules/form.html", context)


_HARMLESS = {"reply_class": ReplyClass.TRANSIENT.value, "action": Action.RETRY.value, "scope": Scope.MESSAGE.value}


def _initial(group: UnmatchedReply | None) -> dict[str, object]:
    if group is None:
        return dict(_HARMLESS)
    return {"name": f"unclassified-{group.pk}", **_made_from(group.example, group.phase, group.group_key)}


def _from_reply(request: HttpRequest) -> dict[str, object]:
    """From a reply that was tried."""
    line, phase = request.GET.get("reply", "")[:500], request.GET.get("phase", "")
    if not line or phase not in {known.value for known in PHASES}:
        return {}
    return _made_from(line, phase, request.GET.get("group", "")[:100])


def _made_from(line: str, phase: str, group: str) -> dict[str, object]:
    """A rule as it would be made from a reply: its own words, escaped, any number for a number, and itself as the sample."""
    reply = from_lines(Phase(phase), [line.encode()])
    pieces = re.split(r"\d+", normalise_text(reply.text)[:240])
    return {
        **_HARMLESS,
        "groups": (group,) if group else (),
        "phases": [phase],
        "codes": (str(reply.code),),
        "enhanced": (reply.enhanced,) if reply.enhanced else (),
        "text": r"\d+".join(_escaped(piece) for piece in pieces),
        "sample": f"{phase} {line}",
    }


def _escaped(text: str) -> str:
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)


@operator_page
@require_POST
def switch(request: HttpRequest, name: str) -> HttpResponse:
    rule = _found(name)
    is_enabled = request.POST.get("enabled") == "1"
    reply_rules.set_enabled(rule, is_enabled, actor=_actor(request))
    said = gettext("The rule “{name}” is asked again.") if is_enabled else gettext("The rule “{name}” is switched off.")
    tell(request, said.format(name=name))
    return redirect("operator-rules")


@operator_page
@require_POST
def move(request: HttpRequest, name: str) -> HttpResponse:
    place = request.POST.get("to", "")
    if not place.isdecimal() or len(place) > 4:
        raise Http404
    reply_rules.move_rule(_found(name), to=int(place), actor=_actor(request))
    return redirect("operator-rules")


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, name: str) -> HttpResponse:
    rule = _found(name)
    if request.method == "POST":
        reply_rules.remove_rule(rule, actor=_actor(request))
        tell(request, gettext("The rule “{name}” is removed. It can be restored below.").format(name=name))
        return redirect("operator-rules")
    context = {"section": "rules", "rule": rule, "verdict": verdict_of(_classification(rule))}
    return render(request, "console/admin/rules/remove.html", context)


@operator_page
@require_POST
def restore(request: HttpRequest, name: str) -> HttpResponse:
    try:
        reply_rules.restore_rule(reply_rules.find_rule(name, is_removed=True), actor=_actor(request))
    except NotFound:
        raise Http404 from None
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("The rule “{name}” is back at its old place.").format(name=name))
    return redirect("operator-rules")


# ---------------------------------------------------------------- trying


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def try_reply(request: HttpRequest) -> HttpResponse:
    """Class, action, reach and rule of a pasted reply, and which rules lost. Nothing is stored."""
    form = TryForm(request.POST or None)
    context: dict[str, object] = {"section": "rules", "form": form}
    if request.method == "POST" and form.is_valid():
        context |= explain(form.read(), form.cleaned_data["group"], reply_rules.in_force())
    return render(request, "console/admin/rules/try.html", context)


def explain(reply: Reply, group: str, rules: LiveRules) -> dict[str, object]:
    decided = rules.classify(reply, group)
    provider = next((title for key, title in provider_groups() if key == group), "") or gettext("the receiving server")
    live = [verdict_of(rule.classification) for rule in rules.fitting(reply, group) if rule.name != decided.rule]
    built_in = [
        verdict_of(rule.classification)
        for rule in RULES
        if rule.id != decided.rule
        and (not rule.groups or group in rule.groups)
        and rule.is_asked_at(reply.phase)
        and rule.fits(reply.origin, reply.code, reply.enhanced, normalise_text(reply.text))
    ]
    verdict = verdict_of(decided)
    known = verdict.class_words
    return {
        "reply": reply,
        "verdict": verdict,
        "is_live": any(rule.name == decided.rule for rule in rules.rules),
        "is_unknown": decided.rule == "unclassified",
        "is_softened": reply.is_transient and decided.action is Action.RETRY,
        "normalised": normalise_text(reply.text),
        "told": [words.fill(text, p=provider, domain="…", size="…", author_domain="…", lifetime="…", last_class="…")
                 for text in (known.happened, known.why, known.remedy)],
        "lost": (live + built_in)[:MOST_BUILT_IN_SHOWN],
        "prefilled": urlencode({"reply": reply.line[:500], "phase": reply.phase.value, "group": group}),
    }  # fmt: skip


# ---------------------------------------------------------------- replies that no rule knew


@operator_page
@require_safe
def unclassified(request: HttpRequest) -> HttpResponse:
    with_ignored = "ignored" in request.GET
    titles = dict(provider_groups())
    context = {
        "section": "unclassified",
        "lines": [
            (group, titles.get(group.group_key, group.group_key), words.PHASES[Phase(group.phase)])
            for group in reply_rules.unmatched(with_ignored=with_ignored)
        ],
        "with_ignored": with_ignored,
        "ignored": UnmatchedReply.objects.filter(ignored_at__isnull=False).count(),
    }
    return render(request, "console/admin/rules/unclassified.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def ignore(request: HttpRequest, group_id: int) -> HttpResponse:
    group = _found_group(group_id)
    form = IgnoreForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            reply_rules.ignore_unmatched(group, reason=form.cleaned_data["reason"], actor=_actor(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("It is left out of the list; “Show ignored” brings it back."))
            return redirect("operator-unclassified")
    context = {"section": "unclassified", "group": group, "form": form}
    return render(request, "console/admin/rules/ignore.html", context)


@operator_page
@require_POST
def heed(request: HttpRequest, group_id: int) -> HttpResponse:
    reply_rules.heed_unmatched(_found_group(group_id), actor=_actor(request))
    tell(request, gettext("It is on the list again."))
    return redirect("operator-unclassified")


# ---------------------------------------------------------------- small parts


def _unmatched(request: HttpRequest) -> UnmatchedReply | None:
    key = request.GET.get("unmatched", "")
    if not key.isdecimal() or len(key) > 18:
        return None
    return _found_group(int(key))


def _found_group(key: int) -> UnmatchedReply:
    try:
        return reply_rules.find_unmatched(key)
    except NotFound:
        raise Http404 from None


def _found(name: str) -> ReplyRule:
    try:
        return reply_rules.find_rule(name)
    except NotFound:
        raise Http404 from None


def _actor(request: HttpRequest) -> Actor:
    return Actor.person(request.user, peer_address=request.META.get("REMOTE_ADDR") or None)  # type: ignore[arg-type]
