"""Every address of the API. None ends in a slash and none is redirected: clients would turn a POST into a GET."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from relayweb.api import documentation
from relayweb.api.compatible import postal, sendgrid
from relayweb.api.v1 import (
    credentials,
    domains,
    members,
    messages,
    operator,
    operator_alerts,
    operator_brakes,
    operator_checks,
    operator_scores,
    operator_sources,
    operator_tenants,
    recipients,
    routes,
    sending,
    suppressions,
    tenant,
    webhooks,
)
from relayweb.api.views import no_such_path

v1: list[URLPattern | URLResolver] = [
    path("messages", messages.Messages.as_view(), name="api-messages"),
    path("messages/batch", sending.SendBatch.as_view(), name="api-messages-batch"),
    path("messages/<uuid:message_id>", messages.MessageView.as_view(), name="api-message"),
    path(
        "messages/<uuid:message_id>/recipients",
        messages.MessageRecipients.as_view(),
        name="api-message-recipients",
    ),
    path("messages/<uuid:message_id>/events", messages.MessageEvents.as_view(), name="api-message-events"),
    path("messages/<uuid:message_id>/content", messages.MessageContent.as_view(), name="api-message-content"),
    path("messages/<uuid:message_id>/send-again", messages.SendMessageAgain.as_view(), name="api-message-send-again"),
    path("messages/<uuid:message_id>/cancel", messages.CancelMessage.as_view(), name="api-message-cancel"),
    path("messages/<uuid:message_id>/retry", messages.RetryMessage.as_view(), name="api-message-retry"),
    path("messages/<uuid:message_id>/hold", messages.HoldMessage.as_view(), name="api-message-hold"),
    path("messages/<uuid:message_id>/release", messages.ReleaseMessage.as_view(), name="api-message-release"),
    path(
        "messages/<uuid:message_id>/reschedule",
        messages.RescheduleMessage.as_view(),
        name="api-message-reschedule",
    ),
    path("recipients", recipients.Recipients.as_view(), name="api-recipients"),
    path("recipients/<uuid:recipient_id>", recipients.RecipientOne.as_view(), name="api-recipient"),
    path("recipients/<uuid:recipient_id>/cancel", recipients.CancelRecipient.as_view(), name="api-recipient-cancel"),
    path("recipients/<uuid:recipient_id>/retry", recipients.RetryRecipient.as_view(), name="api-recipient-retry"),
    path("recipients/<uuid:recipient_id>/hold", recipients.HoldRecipient.as_view(), name="api-recipient-hold"),
    path("recipients/<uuid:recipient_id>/release", recipients.ReleaseRecipient.as_view(), name="api-recipient-release"),
    path("rejections", tenant.Rejections.as_view(), name="api-rejections"),
    path("domains", domains.Domains.as_view(), name="api-domains"),
    path("domains/<str:domain>", domains.DomainOne.as_view(), name="api-domain"),
    path("domains/<str:domain>/check", domains.CheckDomain.as_view(), name="api-domain-check"),
    path("domains/<uuid:domain_id>/restore", domains.RestoreDomain.as_view(), name="api-domain-restore"),
    path("credentials", credentials.Credentials.as_view(), name="api-credentials"),
    path("credentials/<uuid:credential_id>", credentials.CredentialOne.as_view(), name="api-credential"),
    path(
        "credentials/<uuid:credential_id>/rotate", credentials.RotateCredential.as_view(), name="api-credential-rotate"
    ),
    path("suppressions", suppressions.Suppressions.as_view(), name="api-suppressions"),
    path("suppressions/bulk", suppressions.AddMany.as_view(), name="api-suppressions-bulk"),
    path("suppressions/bulk/remove", suppressions.RemoveMany.as_view(), name="api-suppressions-bulk-remove"),
    path("suppressions/<uuid:suppression_id>", suppressions.SuppressionOne.as_view(), name="api-suppression"),
    path(
        "suppressions/<uuid:suppression_id>/restore",
        suppressions.RestoreSuppression.as_view(),
        name="api-suppression-restore",
    ),
    path("routes", routes.Routes.as_view(), name="api-routes"),
    path("routes/<str:domain>", routes.RouteOne.as_view(), name="api-route"),
    path("tenant", tenant.TenantView.as_view(), name="api-tenant"),
    path("members", members.Members.as_view(), name="api-members"),
    path("members/<uuid:member_id>", members.MemberOne.as_view(), name="api-member"),
    path("members/invitations", members.Invitations.as_view(), name="api-invitations"),
    path("members/invitations/<uuid:invitation_id>", members.InvitationOne.as_view(), name="api-invitation"),
    path(
        "members/invitations/<uuid:invitation_id>/send",
        members.SendInvitationAgain.as_view(),
        name="api-invitation-send",
    ),
    path("usage", tenant.Usage.as_view(), name="api-usage"),
    path("statistics", tenant.Statistics.as_view(), name="api-statistics"),
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
    path("operator/tenants", operator_tenants.Tenants.as_view(), name="api-operator-tenants"),
    path("operator/tenants/<str:tenant>", operator_tenants.TenantOne.as_view(), name="api-operator-tenant"),
    path(
        "operator/tenants/<str:tenant>/suspend", operator_tenants.SuspendTenant.as_view(), name="api-operator-suspend"
    ),
    path("operator/tenants/<str:tenant>/resume", operator_tenants.ResumeTenant.as_view(), name="api-operator-resume"),
    path("operator/tenants/<str:tenant>/close", operator_tenants.CloseTenant.as_view(), name="api-operator-close"),
    path("operator/tenants/<str:tenant>/limits", operator_tenants.TenantLimits.as_view(), name="api-operator-limits"),
    path(
        "operator/tenants/<str:tenant>/credentials",
        operator_tenants.TenantCredentials.as_view(),
        name="api-operator-credentials",
    ),
    path(
        "operator/tenants/<str:tenant>/credentials/<uuid:credential_id>",
        operator_tenants.TenantCredentialOne.as_view(),
        name="api-operator-credential",
    ),
    path(
        "operator/tenants/<str:tenant>/streams", operator_tenants.TenantStreams.as_view(), name="api-operator-streams"
    ),
    path(
        "operator/tenants/<str:tenant>/streams/<str:name>",
        operator_tenants.TenantStreamOne.as_view(),
        name="api-operator-stream",
    ),
    path("operator/sources", operator_sources.Sources.as_view(), name="api-operator-sources"),
    path("operator/sources/<uuid:source_id>", operator_sources.SourceOne.as_view(), name="api-operator-source"),
    path(
        "operator/sources/<uuid:source_id>/drain",
        operator_sources.DrainSource.as_view(),
        name="api-operator-source-drain",
    ),
    path(
        "operator/sources/<uuid:source_id>/pause",
        operator_sources.PauseSource.as_view(),
        name="api-operator-source-pause",
    ),
    path(
        "operator/sources/<uuid:source_id>/resume",
        operator_sources.ResumeSource.as_view(),
        name="api-operator-source-resume",
    ),
    path(
        "operator/sources/<uuid:source_id>/checks",
        operator_checks.ChecksOfSource.as_view(),
        name="api-operator-source-checks",
    ),
    path(
        "operator/sources/<uuid:source_id>/check",
        operator_checks.CheckSource.as_view(),
        name="api-operator-source-check",
    ),
    path(
        "operator/sources/<uuid:source_id>/scores",
        operator_scores.ScoresOfSource.as_view(),
        name="api-operator-source-scores",
    ),
    path(
        "operator/tenants/<str:tenant>/scores",
        operator_scores.ScoresOfTenant.as_view(),
        name="api-operator-tenant-scores",
    ),
    path("operator/brakes", operator_brakes.Brakes.as_view(), name="api-operator-brakes"),
    path("operator/brakes/<uuid:brake_id>", operator_brakes.BrakeOne.as_view(), name="api-operator-brake"),
    path(
        "operator/brakes/<uuid:brake_id>/release",
        operator_brakes.ReleaseBrake.as_view(),
        name="api-operator-brake-release",
    ),
    path(
        "operator/brakes/<uuid:brake_id>/refuse",
        operator_brakes.RefuseAppeal.as_view(),
        name="api-operator-brake-refuse",
    ),
    path("operator/alerts", operator_alerts.Alerts.as_view(), name="api-operator-alerts"),
    path("operator/alerts/<uuid:alert_id>", operator_alerts.AlertOne.as_view(), name="api-operator-alert"),
    path(
        "operator/alerts/<uuid:alert_id>/acknowledge",
        operator_alerts.AcknowledgeAlert.as_view(),
        name="api-operator-alert-acknowledge",
    ),
    path(
        "operator/alerts/<uuid:alert_id>/give-back",
        operator_alerts.TakeBackAlert.as_view(),
        name="api-operator-alert-give-back",
    ),
    path("operator/alerts/<uuid:alert_id>/mute", operator_alerts.MuteAlert.as_view(), name="api-operator-alert-mute"),
    path(
        "operator/alerts/<uuid:alert_id>/unmute",
        operator_alerts.UnmuteAlert.as_view(),
        name="api-operator-alert-unmute",
    ),
    path("operator/pools", operator_sources.Pools.as_view(), name="api-operator-pools"),
    path("operator/pools/<str:name>", operator_sources.PoolOne.as_view(), name="api-operator-pool"),
    path("operator/routes", operator.OperatorRoutes.as_view(), name="api-operator-routes"),
    path("operator/routes/<str:domain>", operator.OperatorRouteOne.as_view(), name="api-operator-route"),
    path("operator/queue", operator.Queue.as_view(), name="api-operator-queue"),
]

# Without a key.
about: list[URLPattern | URLResolver] = [
    path("schema", documentation.schema, name="api-schema"),
    path("docs", documentation.page, name="api-docs"),
]

# Addresses that clients of other services know. The one of SendGrid writes //v3 where its base ends in a slash.
compatible: list[URLPattern | URLResolver] = [
    path("api/v1/send/message", postal.SendMessage.as_view(), name="postal-send-message"),
    path("api/v1/send/raw", postal.SendRaw.as_view(), name="postal-send-raw"),
    re_path(r"^/?v3/mail/send\Z", sendgrid.Send.as_view(), name="sendgrid-mail-send"),
    re_path(r"^/?v3/(?P<rest>[\s\S]*)\Z", sendgrid.no_such_path, name="sendgrid-nothing"),
]

nothing_here: list[URLPattern | URLResolver] = [re_path(r"^(?P<rest>[\s\S]*)\Z", no_such_path, name="api-nothing")]
