"""Every word of the contract has a label and a sentence in both languages."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from django.utils.functional import Promise
from django.utils.translation import override

from accounts.models import CredentialKind, CredentialUse, Role
from delivery.core import replies
from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.reply import Origin, Phase
from delivery.core.states import EventKind, RecipientState, TenantEventKind
from delivery.domain_checks import Finding, Level
from delivery.models import (
    DomainState,
    ImportState,
    JobKind,
    JobState,
    SuppressionKind,
    SuppressionReason,
    SuppressionScope,
    WebhookFormat,
    WebhookOutcome,
)
from relayweb.console import (
    class_words,
    credential_words,
    domain_words,
    job_words,
    rejection_words,
    suppression_words,
    webhook_words,
    words,
)

JAPANESE = range(0x3000, 0xFFEF)


@pytest.fixture(scope="session", autouse=True)
def _catalogues() -> None:
    from relayweb.processes.catalogues import compile_outdated

    compile_outdated()


@pytest.mark.parametrize(
    ("members", "table"),
    [
        (RecipientState, words.STATES),
        (EventKind, words.EVENTS),
        (ReplyClass, class_words.CLASSES),
        (Action, words.ACTIONS),
        (Scope, words.SCOPES),
        (Phase, words.PHASES),
        (Origin, words.ORIGINS),
        (Role, words.ROLES),
        (TenantEventKind, words.TENANT_EVENTS),
        (Finding, domain_words.FINDINGS),
        (Level, domain_words.LEVELS),
        (DomainState, domain_words.DOMAIN_STATES),
        (CredentialKind, credential_words.CREDENTIAL_KINDS),
        (CredentialUse, credential_words.CREDENTIAL_USES),
        (SuppressionReason, suppression_words.SUPPRESSION_REASONS),
        (SuppressionScope, suppression_words.SUPPRESSION_SCOPES),
        (SuppressionKind, suppression_words.SUPPRESSION_KINDS),
        (ImportState, suppression_words.IMPORT_STATES),
        (JobKind, job_words.JOBS),
        (JobState, job_words.JOB_STATES),
        (WebhookFormat, webhook_words.WEBHOOK_FORMATS),
        (WebhookOutcome, webhook_words.WEBHOOK_OUTCOMES),
        (class_words.NextMove, class_words.NEXT_MOVES),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_member_has_words(members: type, table: dict[object, object]) -> None:
    assert set(table) == set(members)  # type: ignore[call-overload]


def test_every_refusal_of_ours_has_words() -> None:
    refusals = {
        reply.reason
        for reply in vars(replies).values()
        if isinstance(reply, replies.OwnReply) and reply.code >= 400 and reply.reason
    }

    assert refusals - set(rejection_words.REJECTIONS) == set()


def _texts() -> Iterator[str | Promise]:
    for mark in (*words.STATES.values(), *words.EVENTS.values(), words.RETURNED, words.AMBIGUOUS, words.TEST):
        yield mark.label
        if mark.sentence:
            yield mark.sentence
    for known in class_words.CLASSES.values():
        yield from (known.label, known.happened, known.why, known.remedy)
    for refused in rejection_words.REJECTIONS.values():
        yield from (refused.what, refused.remedy)
    yield from words.ACTIONS.values()
    yield from words.SCOPES.values()
    yield from words.PHASES.values()
    yield from words.ROLES.values()
    yield from words.REASONS.values()


def test_every_text_is_translated_with_the_same_placeholders() -> None:
    for text in _texts():
        with override("en"):
            english = str(text)
        with override("ja"):
            japanese = str(text)

        assert any(ord(character) in JAPANESE for character in japanese), english
        assert _placeholders(japanese) == _placeholders(english), english


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_values_are_escaped_and_the_unnamed_receiver_begins_a_sentence_in_upper_case() -> None:
    with override("en"):
        hostile = words.fill(class_words.CLASSES[ReplyClass.BAD_DOMAIN].happened, domain="<svg onload=alert(1)>")
        unnamed = words.fill(class_words.CLASSES[ReplyClass.BAD_MAILBOX].happened, p=words.provider_name(""))
        named = words.fill(class_words.CLASSES[ReplyClass.BAD_MAILBOX].happened, p=words.provider_name("docomo"))

    assert "<svg" not in hostile
    assert unnamed.startswith("The receiving server says")
    assert named.startswith("docomo says")
