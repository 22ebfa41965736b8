"""Which names may become a sending domain at all, whoever asks.

A public suffix belongs to its registry, a free-mail domain to its provider, and a special-use name to nobody; claims to
them are refused before anything is looked up.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.refusals import Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

# RFC 6761, 6762, 7686, 8375, 9476 and the names ICANN keeps for private use.
NOWHERE = ("localhost", "local", "localdomain", "invalid", "onion", "arpa", "internal", "alt")
# Kept for tests and documents: fine where nothing leaves for the Internet, and where an operator vouches for the
# domain.
FOR_TESTS = ("test", "example", "example.com", "example.net", "example.org")


def checked_name(text: str, *, is_vouched_for: bool = False) -> str:
    """The name as a lower-case A-label.

    Raises Refused with the reason. An operator may vouch for names of FOR_TESTS.
    """
    try:
        name = parse_domain(text.strip())
    except MailboxSyntaxError as error:
        raise Refused(
            _("%(text)s is no domain name: %(why)s.") % {"text": text.strip(), "why": error},
            reason="domain_malformed",
            field="name",
        ) from None
    if _is_within(name, NOWHERE):
        raise _refusal(_("%(name)s is reserved and cannot be used for mail."), name, "domain_reserved")
    if _is_within(name, FOR_TESTS) and not (is_vouched_for or settings.DEVELOPMENT or settings.TEST_PROFILE):
        raise _refusal(_("%(name)s is reserved for tests and examples."), name, "domain_reserved")
    if name in free_mail_domains():
        raise _refusal(
            _("%(name)s belongs to a mail provider. Use a domain of your own."), name, "domain_of_mail_provider"
        )
    if _suffixes().publicsuffix(name) == name:
        raise _refusal(
            _("%(name)s is a suffix under which others register their domains. Add your own domain below it."),
            name,
            "domain_is_public_suffix",
        )
    return name


def registered_domain(name: str) -> str:
    """The part somebody registered: acme.co.jp for mail.acme.co.jp."""
    return _suffixes().privatesuffix(name) or name


@cache
def free_mail_domains() -> frozenset[str]:
    lines = resources.files("delivery").joinpath("free_mail.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # reads 300 KB; only domains need it

    return PublicSuffixList()


def _is_within(name: str, names: tuple[str, ...]) -> bool:
    return any(name == parent or name.endswith(f".{parent}") for parent in names)


def _refusal(sentence: str, name: str, reason: str) -> Refused:
    return Refused(sentence % {"name": name}, reason=reason, field="name")
