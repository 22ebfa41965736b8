"""The queue as a whole, what is parked, and the nodes with their processes."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import interventions, nodes, operations
from delivery.models import Node
from delivery.queue.figures import recent_queue_stats
from relayweb.console import words
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.sources import ReasonForm
from relayweb.console.forms import tell, tell_refusal
from relayweb.console.keysets import key_of

MOST_PROVIDERS = 50


@operator_page
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    figures = recent_queue_stats()
    parked, older = operations.parked_page(before=key_of(request))
    held = operations.held_by_reason()
    context = {
        "section": "queue",
        "queue": figures,
        "providers": [(words.GROUPS.get(row.provider, row.title), row) for row in figures.by_provider[:MOST_PROVIDERS]],
        "has_more": len(figures.by_provider) > MOST_PROVIDERS,
        "overdue": operations.longest_overdue(),
        "held": [(words.reason(word), number) for word, number in held],
        "parked": parked,
        "parked_count": dict(held).get(interventions.POISON, 0),
        "older": older,
        "looked_at": timezone.now(),
    }
    return render(request, "console/admin/queue.html", context)


@operator_page
@require_POST
def release(request: HttpRequest, recipient_id: UUID) -> HttpResponse:
    """A parked recipient is tried again."""
    tenant = operations.find_parked(recipient_id)
    if tenant is None:
        raise Http404
    interventions.release_parked(tenant, recipient_id, actor=actor_of(request))
    tell(request, gettext("It is tried again now. If workers stop at it again, it is parked again."))
    return redirect("operator-queue")


@operator_page
@require_safe
def node_list(request: HttpRequest) -> HttpResponse:
    lines, after = operations.nodes_page(after=request.GET.get("after", "").replace("\0", "")[:63])
    versions = {worker.version for line in lines for worker, is_silent in line.workers if not is_silent}
    silent = [line.node.name for line in lines if line.is_silent and line.addresses]
    context = {
        "section": "nodes",
        "lines": lines,
        "versions": sorted(versions),
        "silent": silent,
        "after": after,
        "looked_at": timezone.now(),
    }
    return render(request, "console/admin/nodes.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def drain(request: HttpRequest, name: str) -> HttpResponse:
    node = _found(name)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            nodes.drain_node(node, reason=form.cleaned_data["reason"], actor=actor_of(request))
            tell(request, gettext("“{name}” is drained.").format(name=node.name))
        except Refused as refusal:
            tell_refusal(request, refusal)
        return redirect("operator-nodes")
    number = operations.nodes_addresses(node)
    question = Question(
        section="nodes",
        title=gettext("Drain the node “{name}”").format(name=node.name),
        button=gettext("Drain"),
        up=reverse("operator-nodes"),
        above=gettext("Nodes"),
        here=node.name,
        effects=[
            ngettext(
                "No new attempt begins from its {n} address; what is being sent ends.",
                "No new attempt begins from its {n} addresses; what is being sent ends.",
                number,
            ).format(n=number),
            gettext(
                "Mail leaves from the pools' addresses on other nodes. A pool without one waits, or uses its stand-by."
            ),
            gettext("Its gates go on taking mail. You can take the node back into use at any time."),
        ],
    )
    return ask(request, question, form)


@operator_page
@require_POST
def resume(request: HttpRequest, name: str) -> HttpResponse:
    node = _found(name)
    try:
        nodes.resume_node(node, actor=actor_of(request))
        tell(request, gettext("“{name}” is in use again.").format(name=node.name))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-nodes")


def _found(name: str) -> Node:
    try:
        return nodes.find_node(name)
    except NotFound:
        raise Http404 from None
