"""A key never gives more than it has: what is issued or rotated with a key stays within that key's own powers."""

from __future__ import annotations

from django.utils.translation import gettext as _

from accounts.models import Credential, CredentialKind
from accounts.refusals import Refused

REASON = "beyond_own_powers"


def ensure_within(holder: Credential, wanted: Credential) -> None:
    """``holder`` is the key that asks, ``wanted`` the credential it would hold the secret of. Raises Refused."""
    for field, is_within in (
        ("scopes", _powers(wanted) <= set(holder.scopes)),
        ("is_test", wanted.is_test or not holder.is_test),
        ("use", wanted.use in ("application", holder.use)),
        ("only_domain", not holder.only_domain or _is_below(wanted.only_domain, holder.only_domain)),
        ("only_networks", _networks_within(holder, wanted)),
        ("expires_at", _at_most(wanted.expires_at, holder.expires_at)),
        ("daily_limit", _at_most(wanted.daily_limit, holder.daily_limit)),
        ("rate_per_second", _at_most(wanted.rate_per_second, holder.rate_per_second)),
    ):
        if not is_within:
            raise Refused(
                _("The key that asks may not give this away: it has less itself."), reason=REASON, field=field
            )


def _powers(credential: Credential) -> set[str]:
    return set(credential.scopes) if credential.kind == CredentialKind.API else {"send"}


def _is_below(name: str, above: str) -> bool:
    return name == above or name.endswith(f".{above}")


def _networks_within(holder: Credential, wanted: Credential) -> bool:
    if not holder.only_networks:
        return True
    used_from = [wanted.network] if wanted.kind == CredentialKind.NETWORK else wanted.only_networks
    return bool(used_from) and all(
        network is not None
        and any(network.version == own.version and network.subnet_of(own) for own in holder.only_networks)
        for network in used_from
    )


def _at_most(wanted: object, own: object) -> bool:
    """None is no limit."""
    return own is None or (wanted is not None and wanted <= own)  # type: ignore[operator]
