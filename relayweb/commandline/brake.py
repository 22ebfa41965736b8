"""brake list | show | pull | release | refuse | level"""

from __future__ import annotations

from typing import Any

import click

from accounts import credentials, tenants
from accounts.audit import Actor
from delivery.brakes import evidence, pulling
from delivery.brakes.levels import Level, Step
from delivery.models import Appeal, Brake
from relayweb.commandline import output
from relayweb.commandline.verbs import TENANT_HELP, Noun, maybe_tenant_option, subject, tenant_option

_BRAKE_HELP = "Id, as `brake list` shows it."
_COLUMNS = ("id", "tenant", "credential", "rule", "step", "percent", "pulled_at", "appeal")


@click.group("brake", cls=Noun)
def command() -> None:
    """Mail that is slowed, held or paused because it harms the addresses all share."""


@command.command("list")
@maybe_tenant_option
@click.option("--ended", is_flag=True, help="Those that were let go instead, the latest 200.")
def list_(tenant: str | None, ended: bool) -> None:
    """Brakes that are pulled, the latest first."""
    found = Brake.objects.filter(ended_at__isnull=not ended).select_related("tenant").order_by("-id")
    if tenant is not None:
        found = found.filter(tenant=tenants.find_tenant(tenant))
    output.rows((_shape(brake) for brake in found[:200]), _COLUMNS, empty="No brake is pulled.")


@command.command("show")
@subject("brake", "brake", _BRAKE_HELP)
def show(brake: str) -> None:
    """One brake with its evidence, in which addresses are masked, and what was written about it."""
    found = pulling.find(brake)
    written = [
        {
            "written_at": one.written_at, "by": one.written_by, "text": one.text,
            "answer": one.answer, "is_granted": one.is_granted,
        }
        for one in found.appeals.order_by("id")
    ]  # fmt: skip
    output.record({**_shape(found), "evidence": evidence.without_addresses(found.evidence), "appeals": written})


@command.command("pull")
@tenant_option
@click.option("--step", type=click.Choice([step.value for step in Step]), required=True)
@click.option("--credential", help="Its id or user name: that credential's mail only.")
@click.option("--reason", required=True, help="The tenant reads it.")
def pull(tenant: str, step: str, credential: str | None, reason: str) -> None:
    """Pull a brake by hand. `release` undoes it."""
    found = tenants.find_tenant(tenant)
    of = credentials.find_credential(credential, tenant=found) if credential else None
    made = pulling.pull_by_hand(found, step=step, reason=reason, actor=Actor.command_line(), credential=of)
    output.record(_shape(made))


@command.command("release")
@subject("brake", "brake", _BRAKE_HELP)
@click.option("--answer", default="", help="The tenant reads it.")
def release(brake: str, answer: str) -> None:
    """Let go: what was held goes out in turn. `pull` undoes it."""
    output.record(_shape(pulling.release(pulling.find(brake), answer=answer, actor=Actor.command_line())))


@command.command("refuse")
@subject("brake", "brake", _BRAKE_HELP)
@click.option("--answer", required=True, help="The tenant reads it.")
def refuse(brake: str, answer: str) -> None:
    """Answer the request that waits, and keep the brake pulled."""
    found = pulling.find(brake)
    waiting = Appeal.objects.filter(brake=found, answered_at=None).select_related("tenant", "brake").first()
    if waiting is None:
        raise click.UsageError("No request waits for an answer.")
    pulling.refuse(waiting, answer=answer, actor=Actor.command_line())
    output.record(_shape(found))


@command.command("level")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--set", "level", type=click.Choice([*(level.value for level in Level), "default"]), required=True)
def level_(tenant: str, level: str) -> None:
    """How strictly brakes watch a tenant."""
    found = tenants.find_tenant(tenant)
    pulling.set_level(found, "" if level == "default" else level, actor=Actor.command_line())
    output.record({"tenant": found.slug, "level": found.brake_level or "default", "in_force": pulling.level_of(found)})


def _shape(brake: Brake) -> dict[str, Any]:
    return {
        "id": brake.id,
        "tenant": brake.tenant.slug,
        "credential": brake.credential_name or None,
        "rule": brake.rule,
        "step": brake.step,
        "percent": brake.evidence.get("percent"),
        "reason": brake.reason,
        "pulled_at": brake.pulled_at,
        "pulled_by": brake.pulled_by,
        "ended_at": brake.ended_at,
        "ended_by": brake.ended_by or None,
        "answer": brake.answer,
        "appeal": Appeal.objects.filter(brake=brake, answered_at=None).exists(),
    }
