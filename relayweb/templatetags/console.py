"""Tags of the console's templates: icons, marks, times, and words that need a language or a zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import idna
from django import template
from django.forms import BoundField
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from relayweb.console import domain_words, moments, stories, words
from relayweb.console.words import Mark

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """Always beside its text, so hidden from screen readers."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("vendor/icons.svg"),
        name,
    )


@register.simple_tag
def mark(which: Mark) -> SafeString:
    """Icon, full text and a line: never colour alone."""
    return format_html(
        '<span class="rw-state rw-{}{}">{}<span>{}</span></span>',
        which.tone,
        " rw-dashed" if which.is_dashed else "",
        icon(which.icon),
        which.label,
    )


@register.simple_tag
def ambiguous_mark() -> SafeString:
    return mark(words.AMBIGUOUS)


@register.simple_tag
def test_mark() -> SafeString:
    return mark(words.TEST)


@register.simple_tag
def moment(when: datetime | None, style: str = "list") -> SafeString:
    return moments.time_tag(when, style=style)


@register.filter
def utc(when: datetime) -> str:
    return when.astimezone(moments.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@register.filter
def size(octets: int) -> str:
    return moments.size(octets)


@register.filter
def length_of_time(length: timedelta | float) -> str:
    return moments.duration(length)


@register.filter
def sentences(said: tuple[SafeString, ...]) -> SafeString:
    return stories.joined(said, get_language() or "en")


@register.filter
def thousands(number: int) -> str:
    return f"{number:,}"


@register.filter
def step(phase: str) -> Any:
    return stories.step_words(phase)


@register.simple_tag
def zone() -> str:
    return moments.zone_name()


@register.inclusion_tag("_field.html")
def field(bound: BoundField) -> dict[str, Any]:
    """A form's field with its label, hint and errors, each tied to it for screen readers."""
    return {"field": bound}


@register.filter
def readable_domain(name: str) -> str:
    """Internationalised names in their own script; both forms stand side by side where they differ."""
    try:
        return idna.decode(name) if "xn--" in name else name
    except idna.IDNAError:
        return name


@register.filter
def spf_fault(word: str) -> Any:
    return domain_words.SPF_FAULTS.get(word, word)


@register.filter
def moment_in_full(when: datetime) -> SafeString:
    return moments.time_tag(when, style="full")


@register.filter
def moment_in_short(when: datetime) -> SafeString:
    return moments.time_tag(when)


@register.filter
def moment_of_day(when: datetime) -> str:
    """As text, where no <time> can stand."""
    return moments.written(when)


@register.filter
def local_field(when: datetime | None) -> str:
    """For <input type=datetime-local>, in the reader's zone."""
    return moments.clock.localtime(when).strftime("%Y-%m-%dT%H:%M") if when else ""


@register.filter
def day(when: datetime) -> str:
    return moments.day(moments.clock.localtime(when))


@register.filter
def dimension(name: str) -> Any:
    return words.DIMENSIONS.get(name, name)


@register.filter
def percent(rate: float) -> str:
    return moments.percent(rate)
