"""reply classify"""

from __future__ import annotations

import re

import click

from delivery.core.classification import classify
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up
from relayweb.commandline import output

_CODE = re.compile(r"[2-5]\d\d(?:[ -]|$)")
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)")


@click.group("reply")
def command() -> None:
    """What a reply of a receiving server means to us."""


@command.command("classify")
@click.option("--provider", default="", help="Key of the provider group, such as google or docomo.")
@click.option(
    "--phase", type=click.Choice([phase.value for phase in Phase]), default=Phase.EOD.value, show_default=True
)
@click.option(
    "--origin", type=click.Choice([origin.value for origin in Origin]), default=Origin.PEER.value, show_default=True
)
@click.argument("text")
def classify_(provider: str, phase: str, origin: str, text: str) -> None:
    """Class, action, scope and deciding rule of a reply, such as "550 5.1.1 user unknown"."""
    classification = classify(_read(text, Phase(phase), Origin(origin)), provider)
    output.record(
        {
            "class": classification.reply_class.value,
            "action": classification.action.value,
            "scope": classification.scope.value,
            "rule": classification.rule,
        }
    )


def _read(text: str, phase: Phase, origin: Origin) -> Reply:
    lines = text.replace("\\n", "\n").strip().splitlines() or [""]
    if not _CODE.match(lines[0]):
        lines = _with_code(lines)
    reply = from_lines(phase, [line.encode() for line in lines])
    if origin == Origin.PEER:
        return reply
    return made_up(phase, reply.code, reply.enhanced, reply.text, origin)


def _with_code(lines: list[str]) -> list[str]:
    """A log may have kept only the enhanced status; its class says which kind of reply it was."""
    status = _ENHANCED.match(lines[0])
    if status is None:
        raise click.UsageError('A reply begins with its code, such as "550 5.1.1 user unknown".')
    return [f"{status[1]}50 {line}" for line in lines]
