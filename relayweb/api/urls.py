"""Every address of the API. None ends in a slash and none is redirected: clients would turn a POST into a GET."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from relayweb.api.compatible import postal, sendgrid
from relayweb.api.v1 import sending, webhooks
from relayweb.api.views import no_such_path

v1: list[URLPattern | URLResolver] = [
    path("messages", sending.Send.as_view(), name="api-messages"),
    path("messages/batch", sending.SendBatch.as_view(), name="api-messages-batch"),
]

v1 += [
    path("webhooks", webhooks.Webhooks.as_view(), name="api-webhooks"),
    path("webhooks/<uuid:webhook_id>", webhooks.WebhookOne.as_view(), name="api-webhook"),
    path("webhooks/<uuid:webhook_id>/restore", webhooks.RestoreWebhook.as_view(), name="api-webhook-restore"),
    path("webhooks/<uuid:webhook_id>/enable", webhooks.EnableWebhook.as_view(), name="api-webhook-enable"),
    path("webhooks/<uuid:webhook_id>/disable", webhooks.DisableWebhook.as_view(), name="api-webhook-disable"),
    path("webhooks/<uuid:webhook_id>/rotate", webhooks.RotateWebhook.as_view(), name="api-webhook-rotate"),
    path("webhooks/<uuid:webhook_id>/test", webhooks.TestWebhook.as_view(), name="api-webhook-test"),
    path("webhooks/<uuid:webhook_id>/replay", webhooks.ReplayWebhook.as_view(), name="api-webhook-replay"),
    path("webhooks/<uuid:webhook_id>/calls", webhooks.WebhookCalls.as_view(), name="api-webhook-calls"),
    path("webhooks/<uuid:webhook_id>/calls/<uuid:call_id>", webhooks.WebhookCallOne.as_view(), name="api-webhook-call"),
    path("webhooks/<uuid:webhook_id>/dead", webhooks.DeadEvents.as_view(), name="api-webhook-dead"),
]

# Addresses that clients of other services know. The one of SendGrid writes //v3 where its base ends in a slash.
compatible: list[URLPattern | URLResolver] = [
    path("api/v1/send/message", postal.SendMessage.as_view(), name="postal-send-message"),
    path("api/v1/send/raw", postal.SendRaw.as_view(), name="postal-send-raw"),
    re_path(r"^/?v3/mail/send\Z", sendgrid.Send.as_view(), name="sendgrid-mail-send"),
    re_path(r"^/?v3/(?P<rest>[\s\S]*)\Z", sendgrid.no_such_path, name="sendgrid-nothing"),
]

nothing_here: list[URLPattern | URLResolver] = [re_path(r"^(?P<rest>.*)$", no_such_path, name="api-nothing")]
