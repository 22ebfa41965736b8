"""Every path of the web process that has a page. Health and figures answer before Django (relayweb.wsgi)."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from relayweb.api import urls as api
from relayweb.console import (
    credentials,
    dmarc,
    domains,
    errors,
    imports,
    message,
    messages,
    preferences,
    rejections,
    signin,
    start,
    suppressions,
    tenants,
    unsubscribes,
    unsubscribing,
)
from relayweb.console.admin import health, rules

tenant_pages: list[URLPattern | URLResolver] = [
    path("", tenants.overview, name="overview"),
    path("start/", start.page, name="start"),
    path("start/live/", start.live, name="start-live"),
    path("start/send/", start.send, name="start-send"),
    path("messages/", messages.log, name="messages"),
    path("messages/live/", messages.live_summary, name="messages-live"),
    path("messages/rows/live/", messages.live_rows, name="messages-rows-live"),
    path("messages/<uuid:message_id>/", message.page, name="message"),
    path("messages/<uuid:message_id>/live/", message.live, name="message-live"),
    path("messages/<uuid:message_id>/html/", message.html_part, name="message-html"),
    path("messages/<uuid:message_id>/eml/", message.original, name="message-eml"),
    path("rejections/", rejections.rejections, name="rejections"),
    path("credentials/", credentials.credential_list, name="credentials"),
    path("credentials/issue/", credentials.issue, name="credential-issue"),
    path("credentials/<uuid:credential_id>/", credentials.page, name="credential"),
    path("credentials/<uuid:credential_id>/secret/", credentials.secret_page, name="credential-secret"),
    path("credentials/<uuid:credential_id>/rotate/", credentials.rotate, name="credential-rotate"),
    path("credentials/<uuid:credential_id>/revoke/", credentials.revoke, name="credential-revoke"),
    path("domains/", domains.domain_list, name="domains"),
    path("domains/add/", domains.add, name="domain-add"),
    path("domains/removed/<uuid:domain_id>/restore/", domains.restore, name="domain-restore"),
    path("domains/<str:name>/", domains.page, name="domain"),
    path("domains/<str:name>/live/", domains.live, name="domain-live"),
    path("domains/<str:name>/check/", domains.check, name="domain-check"),
    path("domains/<str:name>/hand-on/", domains.hand_on, name="domain-hand-on"),
    path("domains/<str:name>/zone/", domains.zone_file, name="domain-zone"),
    path("domains/<str:name>/switch/", domains.switch, name="domain-switch"),
    path("domains/<str:name>/remove/", domains.remove, name="domain-remove"),
    path("suppressions/", suppressions.suppression_list, name="suppressions"),
    path("suppressions/add/", suppressions.add, name="suppression-add"),
    path("suppressions/export/", suppressions.export, name="suppression-export"),
    path("suppressions/import/", imports.begin, name="suppression-import-new"),
    path("suppressions/import/<uuid:import_id>/", imports.page, name="suppression-import"),
    path("suppressions/import/<uuid:import_id>/live/", imports.live, name="suppression-import-live"),
    path("suppressions/import/<uuid:import_id>/confirm/", imports.confirm, name="suppression-import-confirm"),
    path("suppressions/import/<uuid:import_id>/discard/", imports.discard, name="suppression-import-discard"),
    path("suppressions/import/<uuid:import_id>/undo/", imports.undo, name="suppression-import-undo"),
    path("suppressions/import/<uuid:import_id>/bad-rows/", imports.bad_rows, name="suppression-import-bad"),
    path("suppressions/<uuid:suppression_id>/", suppressions.page, name="suppression"),
    path("suppressions/<uuid:suppression_id>/remove/", suppressions.remove, name="suppression-remove"),
    path("suppressions/<uuid:suppression_id>/restore/", suppressions.restore, name="suppression-restore"),
    path("unsubscribes/", unsubscribes.unsubscribe_list, name="unsubscribes"),
    path("unsubscribes/export/", unsubscribes.export, name="unsubscribes-export"),
    path("dmarc/", dmarc.domain_list, name="dmarc"),
    path("dmarc/<str:name>/", dmarc.domain_page, name="dmarc-domain"),
]

operator_pages: list[URLPattern | URLResolver] = [
    path("", health.health_page, name="operator-health"),
    path("live/", health.live, name="operator-health-live"),
    path("rules/", rules.rule_list, name="operator-rules"),
    path("rules/add/", rules.add, name="operator-rule-add"),
    path("rules/try/", rules.try_reply, name="operator-rule-try"),
    path("rules/built-in/", rules.built_in, name="operator-rules-built-in"),
    path("rules/<slug:name>/", rules.edit, name="operator-rule"),
    path("rules/<slug:name>/switch/", rules.switch, name="operator-rule-switch"),
    path("rules/<slug:name>/move/", rules.move, name="operator-rule-move"),
    path("rules/<slug:name>/remove/", rules.remove, name="operator-rule-remove"),
    path("rules/<slug:name>/restore/", rules.restore, name="operator-rule-restore"),
    path("unclassified/", rules.unclassified, name="operator-unclassified"),
    path("unclassified/<int:group_id>/ignore/", rules.ignore, name="operator-unclassified-ignore"),
    path("unclassified/<int:group_id>/heed/", rules.heed, name="operator-unclassified-heed"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", tenants.home, name="home"),
    path("accounts/login/", signin.sign_in, name="sign-in"),
    path("accounts/logout/", signin.sign_out, name="sign-out"),
    path("welcome/<str:token>/", signin.welcome, name="welcome"),
    path(unsubscribing.ROUTE, unsubscribing.page, name="unsubscribe"),
    path("me/language/", preferences.choose_language, name="language"),
    path("me/theme/", preferences.choose_theme, name="theme"),
    path("me/clock/", preferences.choose_clock, name="clock"),
    path("tenants/", tenants.choose, name="tenants"),
    path("t/<slug:slug>/", include(tenant_pages)),
    path("operator/", include(operator_pages)),
    *api.compatible,
    path("api/v1/", include(api.v1)),
    path("api/", include(api.nothing_here)),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.fault
