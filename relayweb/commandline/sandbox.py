"""sandbox mailboxes"""

from __future__ import annotations

import json
import subprocess
import sys

import click

from relayweb.commandline import output, surroundings


@click.group("sandbox")
def command() -> None:
    """The small Internet on this machine."""


@command.command("mailboxes")
def mailboxes() -> None:
    """Every mailbox, how it behaves, and what should become of a mail to it."""
    surroundings.fill_environment()
    # A program of its own: the product never imports the sandbox.
    asked = subprocess.run([sys.executable, "-m", "sandbox", "mailboxes"], capture_output=True, check=False)
    if asked.returncode != 0:
        raise click.ClickException(asked.stderr.decode(errors="replace").strip() or "The sandbox gave no answer.")
    output.rows(json.loads(asked.stdout), ("address", "behaviour", "expect"), empty="The sandbox has no mailbox.")
