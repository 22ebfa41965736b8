"""From what a report quotes to a class, and to the question that matters: is this address dead?

The evidence is asked in order of its weight: words said about the recipient, then enhanced statuses, then the rest of
the notice, then bare codes. `is_hard` only where a final refusal says so in words or status of the recipient's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from delivery.core.classification import UNCLASSIFIED, Action, Classification, Evidence, ReplyClass, classify_reported
from delivery.core.dialogue import Said
from delivery.core.reply import Phase

HARD_CLASSES = frozenset({ReplyClass.BAD_MAILBOX, ReplyClass.BAD_DOMAIN, ReplyClass.INACTIVE})
MAX_EVIDENCE = 4
MAX_CONTEXT_CHARACTERS = 3000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the words: who refused, whether it is only a delay, and the whole notice."""

    provider_group: str = ""
    is_delayed: bool = False
    context: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    classification: Classification
    is_hard: bool
    status: str
    code: int
    text: str


def judge_reported(said: Sequence[Said], *, status: str, circumstances: Circumstances) -> Verdict:
    """What the words and the `status` of a report mean; `said` has the closest evidence first."""
    evidence = [one for one in said if one][:MAX_EVIDENCE]
    code = next((one.code for one in evidence if one.code), 0)
    best_status = _best_status(evidence, status)
    phase = next((one.phase for one in evidence if one.phase), None)
    assumed_code = code or (450 if circumstances.is_delayed or best_status.startswith("4") else 550)
    is_transient = circumstances.is_delayed or assumed_code < 500 or (not code and status.startswith("4"))
    classification, is_about_recipient = UNCLASSIFIED, False
    for evidence_kind, enhanced, text, is_direct in _questions(evidence, status, best_status, phase, circumstances):
        if evidence_kind is Evidence.CODE and not code and not is_transient:
            # The code is only assumed.
            continue
        answer = classify_reported(
            evidence_kind,
            provider_group=circumstances.provider_group,
            phase=phase,
            code=assumed_code,
            enhanced=enhanced,
            text=text,
        )
        if answer is not None:
            classification, is_about_recipient = answer, is_direct
            break
    is_hard = (
        is_about_recipient
        and _is_plain(classification.reply_class, phase, best_status, evidence)
        and not is_transient
        and not status.startswith("4")
        and classification.action is Action.FAIL_AND_SUPPRESS
        and classification.reply_class in HARD_CLASSES
        and not _is_contradicted(circumstances.context, circumstances.provider_group)
    )
    text = next((one.text for one in evidence), "")
    return Verdict(classification, is_hard, best_status, code, text[:1000])


def _questions(
    evidence: Sequence[Said], status: str, best_status: str, phase: Phase | None, circumstances: Circumstances
) -> Iterator[tuple[Evidence | None, str, str, bool]]:
    """Kind of rule, enhanced status, text, and whether it is about this very recipient."""
    if circumstances.provider_group:
        for one in evidence:
            yield None, _status_of(one, status), one.text, True
        yield None, "", circumstances.context[:MAX_CONTEXT_CHARACTERS], False
    for one in evidence:
        yield Evidence.TEXT, _status_of(one, status), one.text, True
    if _is_specific(best_status):
        yield Evidence.STATUS, best_status, "", True
    if phase in (Phase.CONNECT, Phase.HELO):
        yield Evidence.CODE, best_status, "", False
    if circumstances.context:
        yield Evidence.TEXT, "", circumstances.context[:MAX_CONTEXT_CHARACTERS], False
    yield Evidence.STATUS, best_status, "", True
    yield Evidence.CODE, best_status, "", False


def _is_plain(reply_class: ReplyClass, phase: Phase | None, status: str, evidence: Sequence[Said]) -> bool:
    """Whether it can only be about the address.

    An "unknown" that neither answers RCPT nor comes with a status of its own may be a filter's. A peer that says
    "unknown" and gives 5.0.0, "other", does not commit itself; nor does one that complains of syntax (50z).
    """
    if reply_class is not ReplyClass.BAD_MAILBOX:
        return True
    if any(one.enhanced == "5.0.0" for one in evidence[:1]):
        return False
    if any(one.code // 10 == 50 for one in evidence[:1]) and status != "5.1.1":
        return False
    return phase is Phase.RCPT or status.startswith("5.1.")


def _is_contradicted(context: str, provider_group: str) -> bool:
    """Whether the notice around the reply says that there is a mailbox, which is merely full or switched off."""
    answer = classify_reported(
        Evidence.TEXT,
        provider_group=provider_group,
        phase=Phase.EOD,
        code=550,
        enhanced="",
        text=context[:MAX_CONTEXT_CHARACTERS],
    )
    return answer is not None and answer.reply_class is ReplyClass.MAILBOX_FULL


def _best_status(evidence: Sequence[Said], status: str) -> str:
    """What the peer said beats what the reporting host made of it; a status with a detail beats x.0.0."""
    statuses = [one.enhanced for one in evidence if one.enhanced] + [status]
    return next((one for one in statuses if _is_specific(one)), next((one for one in statuses if one), ""))


def _status_of(said: Said, status: str) -> str:
    return next((one for one in (said.enhanced, status) if _is_specific(one)), "")


def _is_specific(status: str) -> bool:
    return bool(status) and not status.endswith(".0.0")
