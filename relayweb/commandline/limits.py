"""limits show | set"""

from __future__ import annotations

from typing import Any

import click

from accounts import quotas, tenants
from accounts.audit import Actor
from accounts.models import Tenant
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, tenant_option

_NONE = ("none", "default")


@click.group("limits", cls=Noun)
def command() -> None:
    """What a tenant may send."""


@command.command("show")
@tenant_option
def show(tenant: str) -> None:
    """Limits in force, and what was used of them in the current hour, day and month (UTC)."""
    output.record(_shape(tenants.find_tenant(tenant)))


class Amount(click.ParamType):
    name = "number|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value in _NONE:
            return "none"
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor none", param, ctx)
        return int(number) if number.is_integer() else number


@command.command("set")
@tenant_option
@click.option("--hourly", "hourly_limit", type=Amount(), help="Recipients accepted in an hour.")
@click.option("--daily", "daily_limit", type=Amount(), help="Recipients accepted in a day.")
@click.option("--monthly", "monthly_limit", type=Amount(), help="Recipients accepted in a month.")
@click.option("--rate", "rate_per_second", type=Amount(), help="Recipients sent in a second.")
@click.option("--max-message-bytes", type=Amount())
@click.option("--max-recipients", type=Amount(), help="Recipients of one message.")
def set_(tenant: str, **given: float | str | None) -> None:
    """Change limits; `none` gives the installation's default back."""
    changes = {name: None if value in _NONE else value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("Say at least one limit.")
    found = tenants.find_tenant(tenant)
    quotas.set_limits(found, changes, actor=Actor.command_line())  # type: ignore[arg-type]
    output.record(_shape(found))


def _shape(tenant: Tenant) -> dict[str, Any]:
    return {"tenant": tenant.slug, **quotas.as_mapping(quotas.limits_of(tenant)), "used": quotas.usage_of(tenant)}
