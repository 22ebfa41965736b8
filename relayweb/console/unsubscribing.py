"""The readers' page: unsubscribing from a stream with the link of a mail, without a login.

Mail programs POST to it by themselves when their button is pressed (RFC 8058): no cookie, no CSRF token, no redirect. What
fetches links to look into them (scanners, previews) does so with GET, which changes nothing: there a person confirms. The
token in the address is the permission, so it is limited how often one of them may be used, and how often guesses are made.
"""

from __future__ import annotations

import hashlib
import time

from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from accounts.refusals import NotFound
from delivery import unsubscribes
from delivery.core.unsubscribing import PATH
from delivery.unsubscribes import Standing, Subscription
from relayweb.console import errors, tries

ROUTE = PATH.lstrip("/").replace("{token}", "<str:token>")

_WINDOW_S = 60
_USES_OF_A_TOKEN = 30
_GUESSES_OF_A_NETWORK = 60
_ONE_CLICK = "One-Click"


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, token: str) -> HttpResponse:
    recipient_id = unsubscribes.recipient_of(token)
    if recipient_id is None:
        return _guessed(request)
    if wait := _over(f"token {recipient_id}", _USES_OF_A_TOKEN):
        return errors.too_many(request, seconds=wait)
    try:
        subscription = unsubscribes.find_of(recipient_id)
    except NotFound:
        return _no_use(
            request,
            410,
            gettext("This link is too old"),
            gettext("The mail is so old that nothing is known of it any more. Use the link of a newer one."),
        )
    done = _answer(request, subscription) if request.method == "POST" else ""
    standing = unsubscribes.standing_of(subscription)
    context = {"subscription": subscription, "standing": standing, "done": done, "Standing": _STANDINGS}
    return _quiet(render(request, "readers/unsubscribe.html", context))


# For the template, which cannot read an enumeration's members.
_STANDINGS = {standing.name.lower(): standing for standing in Standing}


def _answer(request: HttpRequest, subscription: Subscription) -> str:
    if request.POST.get("answer") == "again":
        unsubscribes.subscribe_again(subscription)
        return "again"
    is_one_click = request.POST.get("List-Unsubscribe") == _ONE_CLICK
    unsubscribes.unsubscribe(subscription, how=unsubscribes.ONE_CLICK if is_one_click else unsubscribes.PAGE)
    return "stopped"


def _guessed(request: HttpRequest) -> HttpResponse:
    if wait := _over(f"guess {tries.network_of(request.META.get('REMOTE_ADDR', ''))}", _GUESSES_OF_A_NETWORK):
        return errors.too_many(request, seconds=wait)
    return _no_use(
        request,
        404,
        gettext("This link does not work"),
        gettext(
            "It may have been cut off or changed on its way. Nothing was changed. Open it from the mail once more."
        ),
    )


def _no_use(request: HttpRequest, status: int, title: str, sentence: str) -> HttpResponse:
    context = {"status": status, "title": title, "sentence": sentence}
    return _quiet(render(request, "errors/page.html", context, status=status))


def _quiet(response: HttpResponse) -> HttpResponse:
    response["X-Robots-Tag"] = "noindex"
    return response


def _over(subject: str, most: int) -> int:
    """Counts a use, in this process; 0 while there is room, else the seconds to wait."""
    window, passed = divmod(time.time(), _WINDOW_S)
    cache = caches["process"]
    key = "unsubscribe:" + hashlib.sha256(f"{window:.0f} {subject}".encode()).hexdigest()[:32]
    cache.add(key, 0, timeout=2 * _WINDOW_S)
    try:
        count = cache.incr(key)
    except ValueError:  # it was pushed out in between
        return 0
    return 0 if count <= most else max(1, round(_WINDOW_S - passed))
