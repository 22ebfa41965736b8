"""Every path of the web process that has a page. Health and figures answer before Django (relayweb.wsgi)."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from relayweb.api import urls as api
from relayweb.console import (
    changes,
    credentials,
    domains,
    errors,
    filters,
    jobs,
    message,
    messages,
    preferences,
    rejections,
    signin,
    start,
    statistics,
    tenants,
)
from relayweb.console.admin import health

tenant_pages: list[URLPattern | URLResolver] = [
    path("", statistics.overview, name="overview"),
    path("live/", statistics.overview_live, name="overview-live"),
    path("statistics/", statistics.statistics, name="statistics"),
    path("statistics/csv/", statistics.as_csv, name="statistics-csv"),
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
    path("messages/jobs/", jobs.job_list, name="jobs"),
    path("messages/jobs/new/<slug:kind>/", jobs.ask, name="job-ask"),
    path("messages/jobs/<uuid:job_id>/", jobs.page, name="job"),
    path("messages/jobs/<uuid:job_id>/live/", jobs.live, name="job-live"),
    path("messages/jobs/<uuid:job_id>/cancel/", jobs.cancel, name="job-cancel"),
    path("messages/jobs/<uuid:job_id>/file/", jobs.file, name="job-file"),
    path("messages/filters/", filters.filter_list, name="filters"),
    path("messages/filters/save/", filters.save, name="filter-save"),
    path("messages/filters/<uuid:filter_id>/rename/", filters.rename, name="filter-rename"),
    path("messages/filters/<uuid:filter_id>/remove/", filters.remove, name="filter-remove"),
    path("messages/<uuid:message_id>/change/<slug:verb>/", changes.change, name="message-change"),
    path("messages/<uuid:message_id>/suppressions/", changes.suppressions_of, name="message-suppressions"),
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
]

operator_pages: list[URLPattern | URLResolver] = [
    path("", health.health_page, name="operator-health"),
    path("live/", health.live, name="operator-health-live"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", tenants.home, name="home"),
    path("accounts/login/", signin.sign_in, name="sign-in"),
    path("accounts/logout/", signin.sign_out, name="sign-out"),
    path("welcome/<str:token>/", signin.welcome, name="welcome"),
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
