"""node list | drain | resume"""

from __future__ import annotations

from typing import Any

import click

from accounts.audit import Actor
from delivery import nodes
from delivery.models import Node
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, subject


@click.group("node", cls=Noun)
def command() -> None:
    """Machines that mail leaves from."""


@command.command("list")
def list_() -> None:
    """Every node."""
    output.rows(map(_shape, Node.objects.order_by("name")), ("name", "drained", "created_at"), empty="No node yet.")


@command.command("drain")
@subject("name", "name", "The node's name (RELAY_NODE).")
@click.option("--reason", default="")
def drain(name: str, reason: str) -> None:
    """End what is being sent from a node and begin nothing new there. It goes on taking mail."""
    output.record(_shape(nodes.drain_node(nodes.find_node(name), actor=Actor.command_line(), reason=reason)))


@command.command("resume")
@subject("name", "name", "The node's name (RELAY_NODE).")
def resume(name: str) -> None:
    """Send from a drained node again."""
    output.record(_shape(nodes.resume_node(nodes.find_node(name), actor=Actor.command_line())))


def _shape(node: Node) -> dict[str, Any]:
    return {"name": node.name, "drained": node.is_draining, "created_at": node.created_at}
