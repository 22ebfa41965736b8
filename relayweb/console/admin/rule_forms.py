"""What an operator fills in about reply rules: the rule itself, a reply to try, and why a group of replies is left alone."""

from __future__ import annotations

import re

from django import forms
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.live_rules import Draft
from delivery.core.reply import Phase, Reply, from_lines
from delivery.shaping.providers import providers
from relayweb.console import class_words, words
from relayweb.console.forms import ConsoleForm

_STATUS = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)")
# At these a peer's reply is judged; the others belong to us and the network.
PHASES = (Phase.CONNECT, Phase.HELO, Phase.STARTTLS, Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.EOD)


class WordsField(forms.CharField):
    """Several words, with spaces or commas between them."""

    def to_python(self, value: object) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(str(value or "").replace(",", " ").split())

    def prepare_value(self, value: object) -> object:
        return " ".join(value) if isinstance(value, list | tuple) else value


def provider_groups() -> list[tuple[str, str]]:
    return [(provider.key, provider.title) for provider in providers()]


class RuleForm(ConsoleForm):
    name = forms.CharField(
        label=_("Name"), max_length=60, help_text=_("Recipients show it as the rule that decided, such as acme-quota.")
    )
    note = forms.CharField(
        label=pgettext_lazy("remark", "Note"),
        required=False,
        max_length=500,
        help_text=_("Where the meaning comes from, for your colleagues."),
    )
    groups = WordsField(
        label=_("Only these providers"),
        required=False,
        max_length=500,
        help_text=_("Keys such as google or docomo. Empty: all receivers."),
    )
    phases = forms.MultipleChoiceField(
        label=_("Only at these steps"),
        required=False,
        choices=[(phase.value, words.PHASES[phase]) for phase in PHASES],
        widget=forms.CheckboxSelectMultiple,
    )
    codes = WordsField(
        label=_("Reply codes"), required=False, max_length=100, help_text=_("550, or their beginning: 55 or 4.")
    )
    enhanced = WordsField(
        label=_("Enhanced status"),
        required=False,
        max_length=200,
        help_text=_("5.1.1, x.7.26 in any class, 5.7.* any detail, 5.7.606-649 a range, none where there is none."),
    )
    text = forms.CharField(
        label=_("Words"),
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=_(
            "Regular expression (RE2) in lower case. Addresses, IP addresses and ids read address, ip and id in the text."
        ),
    )
    reply_class = forms.ChoiceField(
        label=_("Class"), choices=[(known.value, class_words.CLASSES[known].label) for known in ReplyClass]
    )
    action = forms.ChoiceField(label=_("Action"))
    scope = forms.ChoiceField(label=_("Reach"))
    sample = forms.CharField(
        label=_("Sample"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text=_("A step and a reply that this rule decides: rcpt 550 5.1.1 no such user"),
    )

    def __init__(self, *args: object, is_new: bool = True, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["action"].choices = list(ACTION_LABELS.items())  # type: ignore[attr-defined]
        self.fields["scope"].choices = list(SCOPE_LABELS.items())  # type: ignore[attr-defined]
        if not is_new:
            del self.fields["name"]

    def draft(self, name: str = "") -> Draft:
        given = self.cleaned_data
        return Draft(
            name=given.get("name", name),
            groups=given["groups"],
            phases=tuple(given["phases"]),
            codes=given["codes"],
            enhanced=given["enhanced"],
            text=given["text"],
            reply_class=given["reply_class"],
            action=given["action"],
            scope=given["scope"],
            sample=given["sample"],
            note=given["note"],
        )

    @property
    def conditions(self) -> list[forms.BoundField]:
        return [self[name] for name in ("groups", "phases", "codes", "enhanced", "text")]

    @property
    def verdict(self) -> list[forms.BoundField]:
        return [self[name] for name in ("reply_class", "action", "scope")]


ACTION_LABELS: dict[str, words.Text] = {
    Action.RETRY: _("try again"),
    Action.SLOW: _("go on, more slowly"),
    Action.SUSPEND: _("pause, then go on"),
    Action.SPLIT: _("split the recipients"),
    Action.REROUTE: _("try another way in"),
    Action.FAIL: _("fail this mail"),
    Action.FAIL_AND_COUNT: _("fail, and count against the address"),
    Action.FAIL_AND_SUPPRESS: _("fail, and suppress the address"),
}
SCOPE_LABELS: dict[str, words.Text] = {
    Scope.MESSAGE: _("this mail"),
    Scope.RECIPIENT: _("this address"),
    Scope.TENANT_PROVIDER: _("the tenant towards this provider"),
    Scope.ADDRESS_PROVIDER: _("our address towards this provider"),
    Scope.PROVIDER: _("all mail to this provider"),
}


class TryForm(ConsoleForm):
    reply = forms.CharField(
        label=_("Reply"),
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("As the receiving server gave it, all its lines, beginning with the code."),
    )
    group = forms.ChoiceField(label=_("Provider"), required=False)
    phase = forms.ChoiceField(
        label=_("Step"), choices=[(phase.value, words.PHASES[phase]) for phase in PHASES], initial=Phase.RCPT.value
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["group"].choices = [("", gettext("any receiver")), *provider_groups()]  # type: ignore[attr-defined]

    def clean_reply(self) -> str:
        text: str = self.cleaned_data["reply"].strip()
        first = text.splitlines()[0]
        status = _STATUS.match(first)
        if status is not None:
            # A log may have kept only the enhanced status; its class says which kind of reply it was.
            text = "\n".join(f"{status[1]}50 {line}" for line in text.splitlines())
        elif not re.match(r"[45]\d\d(?:[ -]|$)", first):
            raise forms.ValidationError(gettext("A refusal begins with a code between 400 and 599."))
        return text

    def read(self) -> Reply:
        lines = [line.encode() for line in self.cleaned_data["reply"].splitlines()]
        return from_lines(Phase(self.cleaned_data["phase"]), lines)


class IgnoreForm(ConsoleForm):
    reason = forms.CharField(label=_("Reason"), max_length=500)
