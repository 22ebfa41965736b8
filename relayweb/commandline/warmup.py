"""warmup list | start | stop | set | forecast"""

from __future__ import annotations

from typing import Any

import click

from accounts.audit import Actor
from delivery import sources
from delivery.models import WarmUpStep
from delivery.warmup import plans
from delivery.warmup.plans import WarmUpLine
from relayweb.commandline import output
from relayweb.commandline.source import ADDRESS_HELP
from relayweb.commandline.verbs import Noun, subject

_PROVIDER_HELP = "Key of a provider group, e.g. google; `queue stats` names them."
_SCHEDULE_HELP = "sparkpost, sendgrid or carrier; else the one made for each group."
_COLUMNS = ("source", "provider", "state", "stage", "stages", "limit", "per", "accepted", "judged")


@click.group("warmup", cls=Noun)
def command() -> None:
    """New source addresses, made known to receivers stage by stage."""


@command.command("list")
@click.option("--source", help=ADDRESS_HELP)
@click.option("--provider", default="", help=_PROVIDER_HELP)
@click.option("--history", "with_history", is_flag=True, help="With --json: every step, the latest first.")
def list_(source: str | None, provider: str, with_history: bool) -> None:
    """Each address and provider group: its stage, what that allows, what was accepted, and what the last look found."""
    found = plans.list_warm_ups(source=sources.find_source(source) if source else None, group_key=provider)
    output.rows(
        (_shape(line, with_history=with_history) for line in found), _COLUMNS, empty="No address is being warmed up."
    )


@command.command("start")
@subject("source", "address", ADDRESS_HELP)
@click.option("--provider", "providers", multiple=True, help=f"{_PROVIDER_HELP} May be repeated; else all it meets.")
@click.option("--schedule", default="", help=_SCHEDULE_HELP)
@click.option("--target", type=click.IntRange(min=1), help="Messages a day to a group that are enough.")
def start(source: str, providers: tuple[str, ...], schedule: str, target: int | None) -> None:
    """Begin with the first stage, towards these groups or towards every group the address meets."""
    found = sources.find_source(source)
    begun = plans.start(found, actor=Actor.command_line(), schedule=schedule, group_keys=providers, target=target)
    output.record(
        {
            "source": str(found),
            "providers": list(providers) or "all",
            "schedule": schedule or "by provider group",
            "target": target,
            "running": len(begun),
        }
    )


@command.command("stop")
@subject("source", "address", ADDRESS_HELP)
@click.option("--provider", "providers", multiple=True, help=f"{_PROVIDER_HELP} May be repeated; else all.")
@click.option("--reason", default="")
def stop(source: str, providers: tuple[str, ...], reason: str) -> None:
    """The address counts as warm: nothing is capped any more."""
    found = sources.find_source(source)
    stopped = plans.stop(found, actor=Actor.command_line(), group_keys=providers, reason=reason)
    output.record({"source": str(found), "providers": list(providers) or "all", "stopped": stopped})


@command.command("set")
@subject("source", "address", ADDRESS_HELP)
@click.option("--provider", required=True, help=_PROVIDER_HELP)
@click.option("--stage", type=int, required=True, help="From 1.")
@click.option("--reason", default="")
def set_(source: str, provider: str, stage: int, reason: str) -> None:
    """Put a warm-up at a stage; one that was over runs again."""
    found = sources.find_source(source)
    plans.set_stage(found, provider, stage=stage, actor=Actor.command_line(), reason=reason)
    (line,) = plans.list_warm_ups(source=found, group_key=provider)
    output.record(_shape(line))


@command.command("forecast")
@subject("source", "address", ADDRESS_HELP)
@click.option("--provider", required=True, help=_PROVIDER_HELP)
@click.option("--daily", type=click.IntRange(min=1), required=True, help="Messages a day.")
def forecast(source: str, provider: str, daily: int) -> None:
    """When so many messages a day may go to a group, if every stage is used and stays clean."""
    found = sources.find_source(source)
    line, when = plans.forecast(found, provider, daily=daily)
    output.record(
        {
            "source": str(found),
            "provider": provider,
            "daily": daily,
            "days": when.days,
            "ready_at": when.ready_at,
            "waits_for_use": when.waits_for_use,
            "stage": line.warm_up.stage + 1 if line else None,
        },
        note=_sentence(provider, daily, when.days, waits_for_use=when.waits_for_use),
    )


def _sentence(provider: str, daily: int, days: int | None, *, waits_for_use: bool) -> str:
    if days is None:
        return f"The schedule never allows {daily:,} a day at {provider}: stop the warm-up, or start one with another schedule."
    if days == 0:
        return f"Ready for {daily:,} a day at {provider}."
    sentence = f"Ready for {daily:,} a day at {provider} in {days} {'day' if days == 1 else 'days'}."
    return f"{sentence} More must be sent for that: the present stage is not used." if waits_for_use else sentence


def _shape(line: WarmUpLine, *, with_history: bool = False) -> dict[str, Any]:
    warm_up = line.warm_up
    shape: dict[str, Any] = {
        "source": str(warm_up.source),
        "pool": warm_up.source.pool.name,
        "provider": warm_up.group.key,
        "schedule": warm_up.schedule,
        "state": warm_up.state,
        "stage": warm_up.stage + 1,
        "stages": len(line.schedule.stages),
        "limit": line.limit,
        "per": line.schedule.per,
        "target": warm_up.target,
        "stage_since": warm_up.stage_since,
        "started_at": warm_up.started_at,
        **line.figures.as_json(),
        "judged": warm_up.judged,
        "judged_at": warm_up.judged_at,
    }
    if with_history:
        shape["history"] = [_step(step) for step in plans.history_of(warm_up)]
    return shape


def _step(step: WarmUpStep) -> dict[str, Any]:
    return {
        "at": step.at,
        "from_stage": step.from_stage + 1,
        "to_stage": step.to_stage + 1,
        "state": step.state,
        "why": step.why,
        "figures": step.figures,
        "by": step.actor_name,
    }
