"""What the verbs of all nouns share: opening the database, naming their subject, reading times and passwords."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import click

from relayweb.commandline import surroundings

Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(click.Command):
    """A verb that needs the database."""

    def invoke(self, ctx: click.Context) -> Any:
        surroundings.open_database()
        return super().invoke(ctx)


class Noun(click.Group):
    command_class = Verb


def subject(name: str, option: str, help_text: str) -> Callable[[Function], Function]:
    """The thing a verb is about, as an argument or as an option:

    ``tenant show acme`` or ``tenant show --tenant acme``.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def with_subject(**values: Any) -> Any:
            given = [value for value in (values.pop(name), values.pop(f"{name}_option")) if value is not None]
            if len(given) != 1:
                raise click.UsageError(f"Say which {name}, once: {name.upper()} or --{option}.")
            return function(**{name: given[0]}, **values)

        with_option = click.option(f"--{option}", f"{name}_option", help=help_text)(with_subject)
        return click.argument(name, required=False)(with_option)  # type: ignore[return-value]

    return decorate


class Moment(click.ParamType):
    """ISO 8601; without an offset it is UTC."""

    name = "iso-8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO 8601 time, such as 2026-11-24T14:30:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Identifier(click.ParamType):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        if isinstance(value, UUID):
            return value
        try:
            return UUID(value)
        except ValueError:
            self.fail(f"{value!r} is no id", param, ctx)


MOMENT = Moment()
IDENTIFIER = Identifier()
TENANT_HELP = "Slug or id."
tenant_option = click.option("--tenant", required=True, help=TENANT_HELP)
maybe_tenant_option = click.option("--tenant", help=TENANT_HELP)


def password_from_stdin() -> str:
    """The first line of stdin: never an argument, which every user of the machine could read."""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("No password came on stdin.")
    return password
