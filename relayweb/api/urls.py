"""Every address of the API. None ends in a slash and none is redirected: clients would turn a POST into a GET."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from relayweb.api.compatible import postal, sendgrid
from relayweb.api.v1 import sending
from relayweb.api.views import no_such_path

v1: list[URLPattern | URLResolver] = [
    path("messages", sending.Send.as_view(), name="api-messages"),
    path("messages/batch", sending.SendBatch.as_view(), name="api-messages-batch"),
]

# Addresses that clients of other services know. The one of SendGrid writes //v3 where its base ends in a slash.
compatible: list[URLPattern | URLResolver] = [
    path("api/v1/send/message", postal.SendMessage.as_view(), name="postal-send-message"),
    path("api/v1/send/raw", postal.SendRaw.as_view(), name="postal-send-raw"),
    re_path(r"^/?v3/mail/send\Z", sendgrid.Send.as_view(), name="sendgrid-mail-send"),
    re_path(r"^/?v3/(?P<rest>[\s\S]*)\Z", sendgrid.no_such_path, name="sendgrid-nothing"),
]

nothing_here: list[URLPattern | URLResolver] = [re_path(r"^(?P<rest>.*)$", no_such_path, name="api-nothing")]
