"""The root of the command line: finds the noun's file, and turns whatever goes wrong into a sentence and an exit code.

Nouns are loaded when they are asked for; those that need no tables start without Django. ``--json`` may stand anywhere.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from delivery.version import VERSION
from relayweb.commandline import output, surroundings

NOUNS = {
    "operator": "People who run this installation",
    "tenant": "Customers: make, suspend, resume, close",
    "limits": "What a tenant may send",
    "domain": "Sending domains and their DNS records",
    "credential": "SMTP logins, API keys and networks of tenants",
    "source": "Addresses that mail leaves from",
    "brake": "Mail that is slowed, held or paused",
    "warmup": "New addresses, made known to receivers",
    "reputation": "How source addresses stand with receivers",
    "score": "How tenants, their domains and source addresses do, from 0 to 100",
    "provider-data": "What Google and Microsoft tell of our mail, from their files",
    "node": "Machines that mail leaves from",
    "pool": "Groups of source addresses",
    "route": "Smarthosts for recipient domains",
    "shaping": "How fast receivers are approached",
    "message": "Mail that was accepted, and what became of it",
    "queue": "What waits",
    "suppression": "Whom mail must not go to",
    "import": "Suppressions and domains that other systems wrote out",
    "webhook": "URLs that are told what becomes of mail",
    "report": "Mail that came back, understood",
    "reply": "What a reply of a receiving server means to us",
    "sandbox": "The small Internet on this machine",
    "alert": "What is wrong and whom it was told",
    "database": "Schema and durability",
    "content": "Where the content of mail stands",
    "key": "The keys that seal secrets",
    "ps": "Processes that are alive",
    "doctor": "What is wrong with this installation",
}
# Words that are no names in Python.
_FILES = {"import": "importing", "provider-data": "provider_data"}
WITHOUT_DJANGO = frozenset({"reply", "report", "sandbox"})


class Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        if cmd_name not in WITHOUT_DJANGO:
            surroundings.set_up_django()
        command: click.Command = importlib.import_module(
            f"relayweb.commandline.{_FILES.get(cmd_name, cmd_name)}"
        ).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Nouns"):
            formatter.write_dl(list(NOUNS.items()))


@click.command(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, message="%(prog)s %(version)s")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; may stand anywhere.")
def root(as_json: bool) -> None:
    """Operate relayweb from the terminal. Each noun has verbs: relay NOUN --help."""


def main(arguments: Sequence[str]) -> int:
    words, as_json = _take_json_out(arguments)
    logging.basicConfig(stream=sys.stderr, level=os.environ.get("RELAY_LOG_LEVEL", "WARNING"))
    try:
        with output.mode(as_json=as_json), surroundings.closing():
            result = root.main(args=words, prog_name="relay", standalone_mode=False)
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return 1
    except click.Abort:
        return _refused("Stopped.", reason="stopped", as_json=as_json)
    except BrokenPipeError:
        # The reader has seen enough; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the edge of the process
        sentence, reason = _explain(error)
        return _refused(sentence, reason=reason, as_json=as_json)


def run() -> None:
    """The program `relay`, where relayweb was installed from a wheel."""
    sys.exit(main(sys.argv[1:]))


def _take_json_out(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Behind ``--`` everything is a value."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--json"]
    return kept + words[end:], len(kept) < end


def _refused(sentence: str, *, reason: str, as_json: bool) -> int:
    click.echo(f"relay: {sentence}", err=True)
    if as_json:
        output.write({"error": reason, "sentence": sentence})
    return 1


def _explain(error: Exception) -> tuple[str, str]:
    """A sentence and a machine word; what we did not foresee is shown with its trace."""
    from relayweb.processes.state import StateError

    if isinstance(error, StateError):
        return str(error), "state_unusable"
    known = _explain_with_django(error) if "django" in sys.modules else None
    if known is None:
        logging.getLogger(__name__).error("unexpected failure", exc_info=error)
        return f"Something unexpected went wrong ({type(error).__name__}: {error}).", "unexpected"
    return known


def _explain_with_django(error: Exception) -> tuple[str, str] | None:
    from django.db import DatabaseError, OperationalError, ProgrammingError

    from accounts.refusals import Refused

    if isinstance(error, Refused):
        return error.sentence, error.reason
    if isinstance(error, ProgrammingError) and "does not exist" in str(error):
        return "The database has not been prepared: run `relay database migrate`.", "database_not_migrated"
    if isinstance(error, OperationalError):
        return f"The database cannot be used: {_first_line(error)}", "database_unavailable"
    if isinstance(error, DatabaseError):
        return f"The database refused: {_first_line(error)}", "database_refused"
    return None


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
