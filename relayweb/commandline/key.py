"""key rotate"""

from __future__ import annotations

import click

from accounts.audit import Actor
from accounts.refusals import Refused
from accounts.sealing import SealingError
from delivery import keys
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun


@click.group("key", cls=Noun)
def command() -> None:
    """The keys that seal secrets."""


@command.command("rotate")
def rotate() -> None:
    """Seal every secret (of DKIM, routes, webhooks, content, authenticator apps) with the first of RELAY_ENCRYPTION_KEYS."""
    try:
        resealed = keys.reseal_all(actor=Actor.command_line())
    except SealingError as error:
        raise Refused(f"Not everything could be sealed anew: {error}.", reason="key_missing") from None
    output.record(
        {
            "current_key": resealed.current_key,
            "dkim_keys": resealed.dkim_keys,
            "route_passwords": resealed.route_passwords,
            "webhook_secrets": resealed.webhook_secrets,
            "one_time_passwords": resealed.one_time_passwords,
            "content_keys": resealed.content_keys,
        }
    )
