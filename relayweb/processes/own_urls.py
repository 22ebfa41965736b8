"""Which variables lead a part to the database: its own, with the role that may do what it has to, where they are given.

A part that has its own is told of no other, so that whoever takes it over does not find the owner's in its environment.
"""

from __future__ import annotations

from collections.abc import Mapping

from relayweb import env

DATABASE_URL, DATABASE_DIRECT_URL = "DATABASE_URL", "DATABASE_DIRECT_URL"
OWN_URLS = {
    "gate": "RELAY_DATABASE_URL_GATE",
    "returns": "RELAY_DATABASE_URL_RETURNS",
    "worker": "RELAY_DATABASE_URL_WORKER",
    "webhooks": "RELAY_DATABASE_URL_WEBHOOKS",
    "housekeeping": "RELAY_DATABASE_URL_HOUSEKEEPING",
    "web": "RELAY_DATABASE_URL_WEB",
}
# Past a transaction pooler: only these listen and hold session locks.
_OWN_DIRECT = {
    "worker": "RELAY_DATABASE_DIRECT_URL_WORKER",
    "webhooks": "RELAY_DATABASE_DIRECT_URL_WEBHOOKS",
}
_ALL = (*OWN_URLS.values(), *_OWN_DIRECT.values(), "RELAY_DATABASE_URL", "RELAY_DATABASE_DIRECT_URL")


def own_variable(part: str, name: str) -> str:
    """The part's own variable where it is given, otherwise the common one; without the prefix, for the readers of env.

    A direct URL that is not the part's own would be another role's: a part with a URL of its own does not take it.
    """
    own = (OWN_URLS if name == DATABASE_URL else _OWN_DIRECT).get(part, "").removeprefix(env.PREFIX)
    if own and env.is_given(own):
        return own
    if name == DATABASE_DIRECT_URL and own_variable(part, DATABASE_URL) != DATABASE_URL:
        return own_variable(part, DATABASE_URL)
    return name


def only_own(variables: Mapping[str, str], part: str) -> dict[str, str]:
    """The environment for a part: with its own URLs alone where it has any, otherwise with the owner's; beat asks nothing."""
    kept: set[str] = set()
    own = OWN_URLS.get(part)
    if own is not None and (variables.get(own) or variables.get(f"{own}_FILE")):
        kept = {own, _OWN_DIRECT.get(part, own)}
    elif own is not None or part == "command":
        kept = {"RELAY_DATABASE_URL", "RELAY_DATABASE_DIRECT_URL"}
    hidden = {name for known in _ALL if known not in kept for name in (known, f"{known}_FILE")}
    return {name: value for name, value in variables.items() if name not in hidden}
