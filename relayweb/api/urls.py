"""Every address of the API. None ends in a slash and none is redirected: clients would turn a POST into a GET."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from relayweb.api.v1 import sending
from relayweb.api.views import no_such_path

v1: list[URLPattern | URLResolver] = [
    path("messages", sending.Send.as_view(), name="api-messages"),
    path("messages/batch", sending.SendBatch.as_view(), name="api-messages-batch"),
]

nothing_here: list[URLPattern | URLResolver] = [re_path(r"^(?P<rest>.*)$", no_such_path, name="api-nothing")]
