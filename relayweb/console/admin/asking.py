"""One page for every question of the operator's console: what will happen, what else must be said, the button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.audit import Actor
from accounts.models import User
from relayweb.console.entering import peer_of
from relayweb.console.forms import ConsoleForm
from relayweb.console.words import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``title`` asks, ``effects`` say what happens, to how many, and the way back; ``up`` is where one came from."""

    section: str
    title: Text
    button: Text
    up: str
    above: Text
    here: Text
    answer: Text = ""
    effects: Sequence[Text] = ()
    is_dangerous: bool = False


def ask(request: HttpRequest, question: Question, form: ConsoleForm | None = None) -> HttpResponse:
    context = {"section": question.section, "question": question, "form": form}
    return render(request, "console/admin/ask.html", context)


def actor_of(request: HttpRequest) -> Actor:
    assert isinstance(request.user, User)
    return Actor.person(request.user, peer_address=peer_of(request))
