"""The words for why mail was put off or bounced: what happened, why, and whose move is next, for each class of reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.utils.translation import gettext_lazy as _

from delivery.core.classification import ReplyClass
from relayweb.console.words import Text


class NextMove(StrEnum):
    YOU = "you"
    THEM = "them"
    US = "us"
    WAIT = "wait"


NEXT_MOVES: dict[NextMove, tuple[Text, str]] = {
    NextMove.YOU: (_("You"), "user"),
    NextMove.THEM: (_("The receiving side"), "users"),
    NextMove.US: (_("Us"), "server"),
    NextMove.WAIT: (_("Just wait"), "clock"),
}


@dataclass(frozen=True, slots=True)
class ClassWords:
    """Between `why` and `remedy` stands what we do, so that one text serves open and final states."""

    next_move: NextMove
    label: Text
    happened: Text
    why: Text
    remedy: Text


CLASSES: dict[ReplyClass, ClassWords] = {
    ReplyClass.BAD_MAILBOX: ClassWords(
        next_move=NextMove.YOU,
        label=_("No such mailbox"),
        happened=_("{p} says this address does not exist."),
        why=_("It seems mistyped, or no longer in use."),
        remedy=_(
            "Check the spelling and ask the person another way. Mail to dead addresses makes receivers refuse "
            "your other mail too."
        ),
    ),
    ReplyClass.BAD_DOMAIN: ClassWords(
        next_move=NextMove.YOU,
        label=_("Domain cannot receive mail"),
        happened=_("“{domain}” does not exist or takes no mail."),
        why=_("The part after the @ is mistyped, expired, or not used for mail."),
        remedy=_("Check the part after the @. If it is right, its owner needs to know."),
    ),
    ReplyClass.INACTIVE: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mailbox disabled"),
        happened=_("{p} says the address exists but cannot be used now."),
        why=_("It seems closed, blocked, or unused for long."),
        remedy=_("Use another contact. Once you know it is back, lift the suppression and send again."),
    ),
    ReplyClass.MAILBOX_FULL: ClassWords(
        next_move=NextMove.THEM,
        label=_("Mailbox full"),
        happened=_("The recipient's mailbox has no room."),
        why=_("Its storage is used up; perhaps nobody reads it any more."),
        remedy=_("If it is urgent, use another way. An address that stays full is probably abandoned."),
    ),
    ReplyClass.TOO_LARGE: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mail too large"),
        happened=_("The mail ({size}) is larger than the receiver allows."),
        why=_("Limits differ; mobile carriers may allow only a few MB, and attachments grow by about 1.4 on the way."),
        remedy=_("Make it smaller, or send a download link instead."),
    ),
    ReplyClass.RECIPIENT_FILTER: ClassWords(
        next_move=NextMove.THEM,
        label=_("Refused by the recipient's settings"),
        happened=_("The address seems to exist, but its owner's settings refused the mail."),
        why=_(
            "Allow-lists, spoofing filters or block lists. Carriers may use the same words as for an unknown "
            "address; we judge by the step at which it was refused."
        ),
        remedy=_("Ask the recipient to allow mail from “{author_domain}”."),
    ),
    ReplyClass.AUTHENTICATION: ClassWords(
        next_move=NextMove.YOU,
        label=_("Authentication did not pass"),
        happened=_("{p} could not verify the author's domain “{author_domain}”."),
        why=_("SPF, DKIM or DMARC is missing or does not match it."),
        remedy=_("On the domain's page, mend what is marked “Problem”."),
    ),
    ReplyClass.REVERSE_DNS: ClassWords(
        next_move=NextMove.US,
        label=_("Our sending address has no matching name"),
        happened=_("{p} could not verify the name of our address."),
        why=_("Its reverse DNS and name do not match; your domain is not the cause."),
        remedy=_(
            "Nothing to do: the operator has been told. If it is urgent, contact support with “Copy for support”."
        ),
    ),
    ReplyClass.IP_BLOCK: ClassWords(
        next_move=NextMove.US,
        label=_("Our sending address is restricted"),
        happened=_("{p} does not take mail from our address at present."),
        why=_("It seems to be its reputation, a blocklist, or a sudden rise in volume."),
        remedy=_(
            "Nothing to do: the operator has been told. With an address of your own, look for lists with many "
            "unknown users or complaints."
        ),
    ),
    ReplyClass.POLICY: ClassWords(
        next_move=NextMove.YOU,
        label=_("Refused by the receiver's policy"),
        happened=_("{p} refused it by a rule of its own."),
        why=_(
            "It seems to be the reputation of the author's domain, complaints, or a restriction of that organisation."
        ),
        remedy=_("If one organisation refuses, ask its administrator; if many do, review your lists and frequency."),
    ),
    ReplyClass.CONTENT: ClassWords(
        next_move=NextMove.YOU,
        label=_("Refused because of the content"),
        happened=_("{p} refused the text, links or attachments."),
        why=_("It looks like spam, a URL has a bad name, or a file type counts as dangerous."),
        remedy=_(
            "Change the content, for example short links or executable files. Repeating the same mail lowers your"
            " reputation."
        ),
    ),
    ReplyClass.FORMAT: ClassWords(
        next_move=NextMove.YOU,
        label=_("Malformed mail"),
        happened=_("It was refused because it does not follow the standard."),
        why=_("From, Date or Message-ID missing or doubled, lines too long; rarely a fault of ours."),
        remedy=_("Give the reply and the headers to whoever looks after the program that made it."),
    ),
    ReplyClass.RATE_LIMIT: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Sent too fast for the receiver"),
        happened=_("{p} asks us to wait: too many in a short time."),
        why=_("Receivers limit how fast they take mail, by sender or by address."),
        remedy=_("Nothing to do. Separate streams for urgent notices and bulk mail keep them from slowing each other."),
    ),
    ReplyClass.GREYLIST: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Greylisted"),
        happened=_("{p} puts off mail from senders it has not seen before."),
        why=_("A defence against spam: only those who come back later are let in."),
        remedy=_("Nothing to do: we come back from the same address; most are accepted within minutes."),
    ),
    ReplyClass.TRANSIENT: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Temporary trouble"),
        happened=_("The receiving server could not be reached, or cannot take mail now."),
        why=_("It seems busy, under maintenance, or cut off for a while."),
        remedy=_("Nothing to do."),
    ),
    ReplyClass.TLS: ClassWords(
        next_move=NextMove.THEM,
        label=_("Encrypted connection failed"),
        happened=_("The required encryption (TLS) could not be set up."),
        why=_("It seems to be a certificate or setting; where encryption is required we never send without."),
        remedy=_("Ask the recipient's mail administrator to check certificate and TLS settings."),
    ),
    ReplyClass.LOOP: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mail loop"),
        happened=_("The mail went round in circles and was stopped."),
        why=_("Two forwarding rules seem to point at each other."),
        remedy=_("Check forwarding at the address, or your own relay's settings."),
    ),
    ReplyClass.EXPIRED: ClassWords(
        next_move=NextMove.YOU,
        label=_("Gave up at the time limit"),
        happened=_("Not accepted in {lifetime} of trying."),
        why=_("The last reason was: {last_class}."),
        remedy=_("See what helps there. The address may well be valid; send again once it is solved."),
    ),
    ReplyClass.UNCLASSIFIED: ClassWords(
        next_move=NextMove.US,
        label=_("Reply not understood yet"),
        happened=_("We could not classify the receiving server's reply."),
        why=_("The wording is new to us; so as to lose no mail we treat it as temporary."),
        remedy=_("The original is below. The operator sees it too."),
    ),
}


def known(words: Mapping[ReplyClass, ClassWords], reply_class: str) -> ClassWords | None:
    """Words for a class as it stands in the database; none for a class this version does not know, or for no class."""
    try:
        return words[ReplyClass(reply_class)]
    except ValueError:
        return None
