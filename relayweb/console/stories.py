"""What became of a recipient, told in words: what happened, why, what we do, what you can do, and whose move it is.

Pure functions from what delivery.history found to what a page prints; no queries, and only the words of words.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from django.utils.functional import Promise
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from delivery import quiet_hours
from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.reply import Origin, Phase
from delivery.core.states import EventKind, RecipientState
from delivery.history import AttemptView, EventView, RecipientRow, RecipientView
from delivery.models import Message, OwedAction, OwedDsn
from relayweb.console import class_words, moments, words
from relayweb.console.class_words import NextMove
from relayweb.console.words import Mark, fill

Text = str | Promise

# Kept back for a reason that the tenant can end itself.
_YOUR_REASONS = frozenset({"domain_lapsed", "domain_removed", "member", "credential_held"})
_TEST_REASON = "test"


# ---------------------------------------------------------------- one line of a list


@dataclass(frozen=True, slots=True)
class Line:
    """A recipient in the send log. ``seen`` changes whenever the line would read differently."""

    row: RecipientRow
    mark: Mark
    aside: SafeString  # beside the state: when it is tried again
    marks: tuple[Mark, ...]
    reason: Text  # the class in words, if there is one
    reply: str
    returned: SafeString

    @property
    def seen(self) -> str:
        return seen(self.row)


def seen(row: RecipientRow) -> str:
    """A few characters that differ when a row has changed since somebody looked at it."""
    stamp = (row.state, row.attempts, row.state_since, row.next_attempt_at, row.returned_at, row.reply)
    return f"{zlib.crc32(repr(stamp).encode()):08x}"


def line_of(row: RecipientRow) -> Line:
    marks = []
    if row.is_test:
        marks.append(words.TEST)
    if row.returned_at is not None:
        marks.append(words.RETURNED)
    if row.has_ambiguous_attempt:
        marks.append(words.AMBIGUOUS)
    aside = SafeString("")
    if row.state == RecipientState.DEFERRED and row.next_attempt_at is not None:
        aside = fill(
            gettext("again {time} (tries so far: {n})"), time=moments.time_tag(row.next_attempt_at), n=row.attempts
        )
    returned = SafeString("")
    if row.returned_at is not None:
        found = class_words.known(class_words.CLASSES, row.returned_class)
        returned = fill(
            gettext("{reason} (reported {time})"),
            reason=found.label if found else words.RETURNED.label,
            time=moments.time_tag(row.returned_at),
        )
    return Line(row, words.STATES[row.state], aside, tuple(marks), _short_reason(row), row.reply, returned)


def _short_reason(row: RecipientRow) -> Text:
    if row.state in {RecipientState.HELD, RecipientState.SUPPRESSED} and row.reason:
        return words.TEST.label if row.reason == _TEST_REASON else words.reason(row.reason)
    if row.state == RecipientState.DELIVERED:
        return ""
    found = class_words.known(class_words.CLASSES, row.reply_class)
    return found.label if found else ""


# ---------------------------------------------------------------- one recipient of a message


@dataclass(frozen=True, slots=True)
class TheirWords:
    reply: str
    speaker: Text
    is_peer: bool
    step: Text
    at: datetime | None
    rule: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of the timeline."""

    at: datetime
    mark: Mark
    said: str
    attempt_number: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What the original reverse-path was told about a recipient. ``message_id``: the report, as long as its row is kept."""

    sentence: SafeString
    at: datetime
    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class Told:
    """The answer for one recipient; empty parts are not printed."""

    view: RecipientView
    mark: Mark
    marks: tuple[Mark, ...]
    reason: Text
    what: tuple[SafeString, ...]
    why: tuple[SafeString, ...] = ()
    doing: tuple[SafeString, ...] = ()
    remedy: tuple[SafeString, ...] = ()
    next_move: NextMove | None = None
    their_words: TheirWords | None = None
    timeline: tuple[Moment, ...] = field(default=())
    reports: tuple[Report, ...] = ()

    @property
    def row(self) -> RecipientRow:
        return self.view.row

    @property
    def support_text(self) -> str:
        """Ids, times and replies, for whoever is asked for help; nothing of the content."""
        lines = [f"message {self.row.message_id}", f"recipient {self.row.recipient_id} <{self.row.recipient}>"]
        lines.append(f"state {self.row.state} since {_exact(self.row.state_since)} {self.row.reply_class}".rstrip())
        lines += [
            f"attempt {attempt.number} {_exact(attempt.started_at)} {attempt.host or '-'} from "
            f"{attempt.source_address or '-'} {attempt.phase} {attempt.reply} rule {attempt.rule or '-'}"
            + (" AMBIGUOUS" if attempt.is_ambiguous else "")
            for attempt in self.view.attempts
        ]
        return "\n".join(lines)

    @property
    def next_move_words(self) -> tuple[Text, str]:
        if self.next_move is None:
            return gettext("Nobody: it is settled"), "check"
        return class_words.NEXT_MOVES[self.next_move]


def tell(view: RecipientView, message: Message, *, reports: Sequence[OwedDsn] = ()) -> Told:
    row = view.row
    marks = []
    if row.is_test:
        marks.append(words.TEST)
    if row.returned_at is not None:
        marks.append(words.RETURNED)
    if row.has_ambiguous_attempt:
        marks.append(words.AMBIGUOUS)
    teller = _Teller(view, message)
    what, why, doing, remedy, next_move = teller.answer()
    return Told(
        view=view,
        mark=words.STATES[row.state],
        marks=tuple(marks),
        reason=_short_reason(row),
        what=what,
        why=why,
        doing=doing,
        remedy=remedy,
        next_move=next_move,
        their_words=_their_words(view),
        timeline=_timeline(view),
        reports=tuple(_report(one, message) for one in reports),
    )


def _report(owed: OwedDsn, message: Message) -> Report:
    said = words.REPORT_SUBJECTS[OwedAction(owed.action)]
    sentence = words.REPORT_OUTCOMES.get(owed.outcome, words.REPORT_WAITS)
    filled = fill(sentence, to=message.reverse_path, said=said)
    return Report(filled, owed.written_at or owed.happened_at, owed.told_in)


_Answer = tuple[
    tuple[SafeString, ...],
    tuple[SafeString, ...],
    tuple[SafeString, ...],
    tuple[SafeString, ...],
    NextMove | None,
]


class _Teller:
    """Words for one recipient; everything a sentence may need is at hand as a value."""

    def __init__(self, view: RecipientView, message: Message) -> None:
        self.view = view
        self.row = view.row
        provider = words.provider_name(view.row.provider)
        self.values = {
            "p": provider,
            "domain": self.row.domain,
            "author_domain": message.author_domain,
            "size": moments.size(message.size_bytes),
            "host": self.row.host or provider,
            "time": moments.time_tag(_next_begin(view), style="full"),
            "until": moments.time_tag(_next_begin(view), style="full"),
            "expiry": moments.time_tag(message.expires_at, style="full"),
            "lifetime": moments.duration(_span(view, message)),
            "n": str(self.row.attempts),
        }

    def answer(self) -> _Answer:
        match self.row.state:
            case RecipientState.QUEUED:
                return self._queued()
            case RecipientState.DEFERRED:
                return self._deferred()
            case RecipientState.HELD:
                return self._held()
            case RecipientState.DELIVERED:
                return self._delivered()
            case RecipientState.BOUNCED:
                return self._bounced()
            case RecipientState.EXPIRED:
                return self._expired()
            case RecipientState.SUPPRESSED:
                return self._suppressed()
            case RecipientState.CANCELLED:
                return self._cancelled()

    def _say(self, text: Text, **more: object) -> SafeString:
        return fill(text, **{**self.values, **more})

    def _state(self, **more: object) -> SafeString:
        return self._say(words.STATES[self.row.state].sentence, **more)

    def _ambiguity(self) -> tuple[SafeString, ...]:
        return (self._say(words.AMBIGUOUS.sentence),) if self.row.has_ambiguous_attempt else ()

    def _queued(self) -> _Answer:
        now = (self._say(words.SENDING_NOW),) if self.view.is_claimed else self._resting()
        return (self._state(), *now), (), (), (self._say(gettext("Nothing to do.")),), NextMove.WAIT

    def _resting(self) -> tuple[SafeString, ...]:
        if self.view.rests_until is None:
            return ()
        sentence = words.RESTS_QUIETLY if self.view.rest_reason == quiet_hours.REASON else words.RESTS
        return (self._say(sentence),)

    def _deferred(self) -> _Answer:
        found = class_words.known(class_words.CLASSES, self.row.reply_class)
        if found is None:
            return (self._state(), *self._resting(), *self._ambiguity()), (), (), (), NextMove.WAIT
        what = (self._say(found.happened), *self._ambiguity())
        return (
            what,
            (self._say(found.why),),
            (*self._doing(), *self._resting()),
            (self._say(found.remedy),),
            found.next_move,
        )

    def _held(self) -> _Answer:
        next_move = NextMove.YOU if self.row.reason in _YOUR_REASONS else NextMove.US
        return (self._state(reason=words.reason(self.row.reason)),), (), (), (), next_move

    def _delivered(self) -> _Answer:
        what = [self._state(time=moments.time_tag(self.row.state_since, style="full"))]
        if self.row.returned_at is None:
            return tuple(what), (), (), (), None
        what.append(self._say(words.RETURNED.sentence, time=moments.time_tag(self.row.returned_at, style="full")))
        found = class_words.known(class_words.CLASSES, self.row.returned_class)
        if found is None:
            return tuple(what), (), (), (), NextMove.YOU
        return tuple(what), (self._say(found.why),), (), (self._say(found.remedy),), found.next_move

    def _bounced(self) -> _Answer:
        found = class_words.known(class_words.CLASSES, self.row.reply_class)
        if found is None:
            return (self._state(),), (), (), (), NextMove.YOU
        doing = (self._say(words.ACTIONS[Action.FAIL]),)
        what = (self._say(found.happened), *self._ambiguity())
        return what, (self._say(found.why),), doing, (self._say(found.remedy),), found.next_move

    def _expired(self) -> _Answer:
        gave_up = class_words.CLASSES[ReplyClass.EXPIRED]
        last = self._last_class()
        why = (self._say(gave_up.why, last_class=last.label),) if last else ()
        remedy = [self._say(gave_up.remedy)]
        if last and last.next_move is not NextMove.WAIT:
            remedy.append(self._say(last.remedy))
        return (self._state(), *self._ambiguity()), why, (), tuple(remedy), gave_up.next_move

    def _suppressed(self) -> _Answer:
        if self.row.reason == _TEST_REASON:
            return (self._say(words.TEST.sentence),), (), (), (), None
        return (self._state(),), (), (), (), NextMove.YOU

    def _cancelled(self) -> _Answer:
        sentence = words.STATES[self.row.state].sentence if self.row.reason else words.CANCELLED_BY_UNKNOWN
        what = [self._say(sentence, who=self.row.reason, time=moments.time_tag(self.row.state_since, style="full"))]
        if self.row.has_ambiguous_attempt:
            what.append(self._say(words.MAYBE_HANDED_OVER))
        return tuple(what), (), (), (), None

    def _doing(self) -> tuple[SafeString, ...]:
        """What we do about an open recipient: the measure taken, then the time of the next try."""
        if self.row.next_attempt_at is None:
            return ()
        again = self._say(words.ACTIONS[Action.RETRY])
        try:
            action, scope = Action(self.row.action), Scope(self.row.scope)
        except ValueError:
            return (again,)
        if action is Action.SUSPEND:
            return (self._say(words.ACTIONS[action], reach=self._say(words.SCOPES[scope])),)
        if action in {Action.SLOW, Action.SPLIT, Action.REROUTE}:
            return (self._say(words.ACTIONS[action], reach=self._say(words.SCOPES[scope])), again)
        return (again,)

    def _last_class(self) -> class_words.ClassWords | None:
        """The reason before time ran out."""
        for word in (self.row.reply_class, *(attempt.reply_class for attempt in reversed(self.view.attempts))):
            if word and word != ReplyClass.EXPIRED and (found := class_words.known(class_words.CLASSES, word)):
                return found
        return None


def _next_begin(view: RecipientView) -> datetime | None:
    """When the next attempt may begin: at the schedule's next step, or when a rest ends that lasts longer."""
    moments_ = [moment for moment in (view.row.next_attempt_at, view.rests_until) if moment is not None]
    return max(moments_, default=None)


def _span(view: RecipientView, message: Message) -> float:
    """How long it was tried, in seconds."""
    end = view.row.state_since if view.row.state.is_final else message.expires_at
    return max(0.0, (end - message.accepted_at).total_seconds())


def _their_words(view: RecipientView) -> TheirWords | None:
    row, last = view.row, view.attempts[-1] if view.attempts else None
    if not row.reply:
        return None
    origin = last.origin if last else Origin.PEER
    return TheirWords(
        reply=row.reply,
        speaker=words.ORIGINS[Origin(origin)] if origin in set(Origin) else "",
        is_peer=origin == Origin.PEER,
        step=step_words(row.phase),
        at=last.ended_at if last else row.state_since,
        rule=row.rule,
    )


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def step_words(phase: str) -> Text:
    return words.PHASES[Phase(phase)] if phase in set(Phase) else phase


def _timeline(view: RecipientView) -> tuple[Moment, ...]:
    """Events and the attempts that led to them, oldest first; an attempt without an event of its own stands by itself."""
    by_id = {attempt.attempt_id: attempt for attempt in view.attempts}
    entries = [_moment(event, by_id.pop(event.attempt_id, None) if event.attempt_id else None) for event in view.events]
    entries += [_bare(attempt) for attempt in by_id.values()]
    return tuple(sorted(entries, key=lambda entry: entry.at))


def _moment(event: EventView, attempt: AttemptView | None) -> Moment:
    mark = (
        words.EVENTS[EventKind(event.kind)] if event.kind in set(EventKind) else Mark(event.kind, "", "quiet", "clock")
    )
    said = attempt.reply if attempt else ""
    if not said and isinstance(event.data, dict):
        said = str(event.data.get("reply", ""))
    return Moment(event.occurred_at, mark, said, attempt.number if attempt else None)


def _bare(attempt: AttemptView) -> Moment:
    mark = words.AMBIGUOUS if attempt.is_ambiguous else words.STATES[RecipientState.DEFERRED]
    return Moment(attempt.ended_at, mark, attempt.reply, attempt.number)


def joined(sentences: tuple[SafeString, ...], language: str) -> SafeString:
    """Sentences one after the other: with a space between them, in Japanese without."""
    between = "" if language == "ja" else " "
    return mark_safe(between.join(conditional_escape(sentence) for sentence in sentences))  # noqa: S308 - each is escaped
