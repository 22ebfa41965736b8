"""Nodes, as operators see them: the machines that hold source addresses, drained before they go."""

from __future__ import annotations

import re

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery.models import Node
from delivery.queue import wake

_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def find_node(name: str) -> Node:
    """Raises NotFound."""
    node = Node.objects.filter(name=name).first()
    if node is None:
        raise NotFound(_("There is no node %(name)s.") % {"name": name}, field="node")
    return node


def drain_node(node: Node, *, actor: Actor, reason: str = "") -> Node:
    """Attempts that are under way end; no new one begins there, and greylisted mail may leave from other nodes."""
    return _set_draining(node, True, actor=actor, reason=reason)


def resume_node(node: Node, *, actor: Actor) -> Node:
    return _set_draining(node, False, actor=actor)


def _set_draining(node: Node, is_draining: bool, *, actor: Actor, reason: str = "") -> Node:
    with transaction.atomic():
        if not Node.objects.filter(pk=node.pk, is_draining=not is_draining).update(is_draining=is_draining):
            sentence = _("%(name)s is drained already.") if is_draining else _("%(name)s is in use already.")
            raise Refused(sentence % {"name": node.name}, reason="state_unchanged")
        audit.record(
            actor,
            "node.drain" if is_draining else "node.resume",
            object_id=node.name,
            object_name=node.name,
            before={"drained": not is_draining},
            after={"drained": is_draining},
            reason=reason,
        )
        tell_engines()
    node.refresh_from_db()
    return node


def tell_engines() -> None:
    with connection.cursor() as cursor:
        cursor.execute(wake.RING, [wake.PATHS])


def checked_node(name: str) -> str:
    if not _NODE_NAME.fullmatch(name):
        raise Refused(_("%(name)s is no name for a node.") % {"name": name}, reason="node_malformed", field="node")
    return name
