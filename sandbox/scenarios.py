"""What the sandbox's hosts do, read from TOML: one table per behaviour.

A behaviour has a zone of its own with MX hosts of its own, because whoever delivers to it may slow or suspend a whole
site and behaviours must not disturb each other. Mistakes in the data raise `ScenarioError` with a sentence that names
the behaviour and the key; nothing is ignored silently.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

BUILT_IN_FILE = Path(__file__).with_name("scenarios.toml")
ROOT_ZONE = "sandbox.test"

STATES = frozenset({"queued", "deferred", "held", "delivered", "bounced", "expired", "suppressed", "cancelled"})
CLASSES = frozenset(
    {
        "bad_mailbox",
        "bad_domain",
        "inactive",
        "mailbox_full",
        "too_large",
        "recipient_filter",
        "authentication",
        "reverse_dns",
        "ip_block",
        "policy",
        "content",
        "format",
        "rate_limit",
        "greylist",
        "transient",
        "tls",
        "loop",
        "expired",
        "unclassified",
    }
)
EXTENSIONS = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "STARTTLS")
MAX_MESSAGE_BYTES = 50 * 1024 * 1024

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_REPLY = re.compile(r"[2-5][0-9]{2}( [^\r\n]*)?(\n[^\r\n]*)*\Z")
_Alternative = TypeVar("_Alternative", bound=StrEnum)


class ScenarioError(ValueError):
    """The scenario data cannot be used; the text is a sentence for the person who wrote it."""


class Moment(StrEnum):
    """Where in a session a rule can step in."""

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"  # while the message's content is being received
    EOD = "eod"  # the final dot has been received
    RSET = "rset"
    QUIT = "quit"


class Then(StrEnum):
    """What happens to the connection after a rule's reply, or in place of it."""

    CONTINUE = "continue"
    CLOSE = "close"
    RESET = "reset"  # a TCP reset instead of an orderly close
    HANG = "hang"  # silence until the client gives up


class TlsMode(StrEnum):
    OFFERED = "offered"
    ABSENT = "absent"
    REFUSED = "refused"  # offered, and answered 454
    BROKEN = "broken"  # offered and answered 220; the handshake fails


class DnsFault(StrEnum):
    SERVFAIL = "servfail"
    REFUSED = "refused"
    DROP = "drop"  # no answer at all
    TRUNCATE = "truncate"  # over UDP only the advice to ask again over TCP


COUNTED_BY = frozenset({"peer", "reverse_path", "recipient"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One departure from the normal dialogue.

    `times` and `for_s` bound it per key (`counted_by`): it applies to the first `times` occasions, or during `for_s`
    seconds from the first one. `every` = n lets it apply on each n-th occasion only.
    """

    at: Moment
    reply: str | None = None
    then: Then = Then.CONTINUE
    times: int | None = None
    for_s: float | None = None
    every: int | None = None
    counted_by: tuple[str, ...] = ()
    delay_s: float = 0.0
    after_bytes: int = 0
    without_tls: bool = False
    recipient: str | None = None  # a pattern with * and ?


class AnswerKind(StrEnum):
    """What a mailbox sends back some time after it accepted a mail."""

    DSN = "dsn"  # to the reverse-path, from the null reverse-path
    COMPLAINT = "complaint"  # a feedback report to fbl@ of the reverse-path's domain
    VACATION = "vacation"  # an automatic reply to the reverse-path


@dataclass(frozen=True, slots=True)
class Answer:
    """A mail that goes back `after_s` seconds later. `reply` is what a DSN quotes, `feedback_type` what a complaint is."""

    kind: AnswerKind
    after_s: float = 2.0
    action: str = "failed"
    reply: str = "550 5.1.1 No such mailbox"
    feedback_type: str = "abuse"


@dataclass(frozen=True, slots=True)
class MxHostPlan:
    """An MX host of a behaviour's zone. `name` "" is the zone itself, `preference` None means: no MX record."""

    name: str = "mx1"
    preference: int | None = 10
    listens: bool = True
    has_address: bool = True
    is_alias: bool = False
    address: str | None = None
    behaviour: str | None = None


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    name: str
    type: str
    value: str
    ttl: int = 5


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a host behaves, and what a sender is expected to make of it."""

    name: str
    en: str = ""
    ja: str = ""
    expected_state: str = "delivered"
    expected_class: str | None = None
    is_listed: bool = True
    rules: tuple[Rule, ...] = ()
    answers: tuple[Answer, ...] = ()
    # the host
    extensions: tuple[str, ...] = EXTENSIONS
    tls: TlsMode = TlsMode.OFFERED
    knows_ehlo: bool = True
    size_limit: int = MAX_MESSAGE_BYTES
    byte_delay_s: float = 0.0
    max_recipients: int = 1000
    max_connections: int | None = None
    mails_per_connection: int | None = None
    # the zone
    domains: tuple[str, ...] = ()
    hosts: tuple[MxHostPlan, ...] = (MxHostPlan(),)
    records: tuple[ZoneRecord, ...] = ()
    has_zone: bool = True
    dns_fault: DnsFault | None = None
    dns_delay_s: float = 0.0

    @property
    def domain(self) -> str:
        return self.domains[0] if self.domains else f"{self.name}.{ROOT_ZONE}"

    @property
    def address(self) -> str:
        return f"{self.name}@{self.domain}"

    def as_mailbox(self) -> dict[str, Any]:
        expect = {"state": self.expected_state, "class": self.expected_class}
        return {"address": self.address, "behaviour": self.name, "expect": expect, "en": self.en, "ja": self.ja}


def behaviour_from(name: str, table: Mapping[str, Any]) -> Behaviour:
    """A behaviour from the words of the scenario file; tests may pass such a dictionary directly."""
    if not _NAME.match(name):
        raise ScenarioError(f"behaviour {name!r}: a name consists of lower-case letters, digits and hyphens.")
    return _Table(f"behaviour {name!r}", table).as_behaviour(name)


def read_scenarios(*more: Path) -> dict[str, Behaviour]:
    """The built-in behaviours, overridden and extended by the given files, in the order in which they are written."""
    behaviours: dict[str, Behaviour] = {}
    for file in (BUILT_IN_FILE, *more):
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ScenarioError(f"The scenario file {file} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ScenarioError(f"The scenario file {file} is not valid TOML: {error}.") from error
        tables = document.pop("behaviours", {})
        if document or not isinstance(tables, dict):
            raise ScenarioError(f"The scenario file {file} holds tables [behaviours.NAME] and nothing else.")
        for name, table in tables.items():
            behaviours[name] = behaviour_from(name, table)
    _check_references(behaviours)
    return behaviours


def mailboxes(behaviours: Iterable[Behaviour]) -> list[dict[str, Any]]:
    return [behaviour.as_mailbox() for behaviour in behaviours if behaviour.is_listed]


def _check_references(behaviours: Mapping[str, Behaviour]) -> None:
    for behaviour in behaviours.values():
        for host in behaviour.hosts:
            if host.behaviour is not None and host.behaviour not in behaviours:
                raise ScenarioError(f"behaviour {behaviour.name!r}: there is no behaviour {host.behaviour!r}.")


@dataclass(slots=True)
class _Table:
    """Typed reading of one TOML table; every key must be known, and read once."""

    where: str
    table: Mapping[str, Any]
    read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.table, Mapping):
            raise ScenarioError(f"{self.where}: a table is expected, not {self.table!r}.")

    def as_behaviour(self, name: str) -> Behaviour:
        expect = self._sub_table("expect", self.table.get("expect", {}))
        state, reply_class = expect._text("state", "delivered"), expect._text("class", "")
        expect._finish()
        self.read.add("expect")
        self._check(state in STATES, "expect", f"the state {state!r} does not exist")
        self._check(not reply_class or reply_class in CLASSES, "expect", f"the class {reply_class!r} does not exist")
        base = Behaviour(name)
        without, also = self._texts("without"), self._texts("also")
        unknown = set(without) - set(EXTENSIONS)
        self._check(not unknown, "without", f"{', '.join(sorted(unknown))} would not be offered anyway")
        behaviour = Behaviour(
            name=name,
            en=self._text("en", ""),
            ja=self._text("ja", ""),
            expected_state=state,
            expected_class=reply_class or None,
            is_listed=self._flag("listed", True),
            rules=tuple(sub.as_rule() for sub in self._sub_tables("rules")),
            answers=tuple(sub.as_answer() for sub in self._sub_tables("answers")),
            extensions=tuple(word for word in (*EXTENSIONS, *also) if word not in without),
            tls=self._alternative("tls", TlsMode) or TlsMode.OFFERED,
            knows_ehlo=self._flag("knows_ehlo", True),
            size_limit=self._number("size_limit", MAX_MESSAGE_BYTES),
            byte_delay_s=self._seconds("byte_delay_s"),
            max_recipients=self._number("max_recipients", base.max_recipients),
            max_connections=self._number("max_connections", 0) or None,
            mails_per_connection=self._number("mails_per_connection", 0) or None,
            domains=self._texts("domains"),
            hosts=tuple(sub.as_host() for sub in self._sub_tables("hosts")) if "hosts" in self.table else base.hosts,
            records=tuple(sub.as_record() for sub in self._sub_tables("records")),
            has_zone=self._flag("zone", True),
            dns_fault=self._alternative("dns_fault", DnsFault),
            dns_delay_s=self._seconds("dns_delay_s"),
        )
        self.read.add("hosts")
        self._finish()
        if behaviour.tls is TlsMode.ABSENT:
            return replace(behaviour, extensions=tuple(word for word in behaviour.extensions if word != "STARTTLS"))
        if "STARTTLS" not in behaviour.extensions:
            return replace(behaviour, tls=TlsMode.ABSENT)
        return behaviour

    def as_rule(self) -> Rule:
        at = self._alternative("at", Moment)
        if at is None:
            raise ScenarioError(f"{self.where}: 'at' is missing; it is one of {', '.join(Moment)}.")
        reply = self._text("reply", "") or None
        self._check(reply is None or bool(_REPLY.match(reply)), "reply", 'a reply begins with its code: "550 text"')
        self._check(reply is None or at is not Moment.CONTENT, "reply", "nothing can be answered inside the content")
        recipient = self._text("recipient", "") or None
        knows_recipient = at in (Moment.RCPT, Moment.DATA, Moment.CONTENT, Moment.EOD)
        self._check(recipient is None or knows_recipient, "recipient", f"no recipient is known at {at}")
        counted_by = self._texts("counted_by") if "counted_by" in self.table else _usual_key(at)
        unknown = set(counted_by) - COUNTED_BY
        self._check(not unknown, "counted_by", f"use {', '.join(sorted(COUNTED_BY))}, not {', '.join(sorted(unknown))}")
        rule = Rule(
            at=at,
            reply=reply,
            then=self._alternative("then", Then) or _usual_end(at, reply),
            times=self._number("times", 0) or None,
            for_s=self._seconds("for_s") or None,
            every=self._number("every", 0) or None,
            counted_by=counted_by,
            delay_s=self._seconds("delay_s"),
            after_bytes=self._number("after_bytes", 0),
            without_tls=self._flag("without_tls", False),
            recipient=recipient,
        )
        self._finish()
        return rule

    def as_answer(self) -> Answer:
        kind = self._alternative("kind", AnswerKind)
        if kind is None:
            raise ScenarioError(f"{self.where}: 'kind' is missing; it is one of {', '.join(AnswerKind)}.")
        base = Answer(kind)
        answer = Answer(
            kind=kind,
            after_s=self._seconds("after_s") if "after_s" in self.table else base.after_s,
            action=self._text("action", base.action),
            reply=self._text("reply", base.reply),
            feedback_type=self._text("feedback_type", base.feedback_type),
        )
        self._check(bool(_REPLY.match(answer.reply)), "reply", 'a reply begins with its code: "550 text"')
        self._finish()
        return answer

    def as_host(self) -> MxHostPlan:
        address = self._text("address", "") or None
        if address is not None:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise ScenarioError(f"{self.where}: {address!r} is not an IP address.") from error
        host = MxHostPlan(
            name=self._text("name", "mx1"),
            preference=self._number_or_false("preference", 10),
            listens=self._flag("listens", True),
            has_address=self._flag("has_address", True),
            is_alias=self._flag("is_alias", False),
            address=address,
            behaviour=self._text("behaviour", "") or None,
        )
        self._finish()
        return host

    def as_record(self) -> ZoneRecord:
        record = ZoneRecord(
            name=self._text("name", "@"),
            type=self._text("type", "A").upper(),
            value=self._text("value", ""),
            ttl=self._number("ttl", 5),
        )
        self._finish()
        return record

    def _sub_table(self, key: str, value: Any) -> _Table:
        return _Table(f"{self.where}, {key}", value)

    def _sub_tables(self, key: str) -> list[_Table]:
        self.read.add(key)
        value = self.table.get(key, [])
        self._check(isinstance(value, list), key, "a list of tables is expected")
        return [self._sub_table(f"{key}[{number}]", entry) for number, entry in enumerate(value)]

    def _text(self, key: str, default: str) -> str:
        return str(self._value(key, default, str, "a text"))

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._value(key, [], list, "a list of texts")
        self._check(all(isinstance(entry, str) for entry in value), key, "a list of texts is expected")
        return tuple(value)

    def _flag(self, key: str, default: bool) -> bool:
        return bool(self._value(key, default, bool, "true or false"))

    def _number(self, key: str, default: int) -> int:
        value = self._value(key, default, int, "a whole number")
        self._check(not isinstance(value, bool) and value >= 0, key, "a whole number that is not negative is expected")
        return int(value)

    def _number_or_false(self, key: str, default: int) -> int | None:
        self.read.add(key)
        return None if self.table.get(key) is False else self._number(key, default)

    def _seconds(self, key: str) -> float:
        value = self._value(key, 0, (int, float), "a number of seconds")
        self._check(not isinstance(value, bool) and value >= 0, key, "a number of seconds is expected")
        return float(value)

    def _alternative(self, key: str, words: type[_Alternative]) -> _Alternative | None:
        text = self._text(key, "")
        if not text:
            return None
        try:
            return words(text)
        except ValueError as error:
            raise ScenarioError(f"{self.where}: {key} is one of {', '.join(words)}, not {text!r}.") from error

    def _value(self, key: str, default: Any, kind: type | tuple[type, ...], described: str) -> Any:
        self.read.add(key)
        value = self.table.get(key, default)
        self._check(isinstance(value, kind), key, f"{described} is expected, not {value!r}")
        return value

    def _check(self, is_right: bool, key: str, complaint: str) -> None:
        if not is_right:
            raise ScenarioError(f"{self.where}, {key}: {complaint}.")

    def _finish(self) -> None:
        unknown = set(self.table) - self.read
        if unknown:
            raise ScenarioError(f"{self.where}: unknown key {', '.join(sorted(unknown))}.")


def _usual_key(at: Moment) -> tuple[str, ...]:
    # Counting per message: a relay's reverse-path stays the same over all attempts for one recipient.
    if at in (Moment.RCPT, Moment.DATA, Moment.CONTENT, Moment.EOD):
        return ("reverse_path", "recipient")
    return ("reverse_path",) if at is Moment.MAIL else ()


def _usual_end(at: Moment, reply: str | None) -> Then:
    # RFC 5321 §3.8: a server closes the connection after 421; after a refusing greeting there is nothing to say either.
    is_refused_connection = at is Moment.CONNECT and reply is not None and not reply.startswith("2")
    return Then.CLOSE if is_refused_connection or (reply or "").startswith("421") else Then.CONTINUE
