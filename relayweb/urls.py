"""Every path of the web process that has a page. Health and figures answer before Django (relayweb.wsgi)."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from relayweb.api import urls as api
from relayweb.console import (
    audit,
    credentials,
    domains,
    errors,
    joining,
    me,
    message,
    messages,
    preferences,
    rejections,
    security,
    signin,
    signup,
    start,
    team,
    tenants,
)
from relayweb.console.admin import health

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
    path("team/", team.page, name="team"),
    path("team/invite/", team.invite, name="team-invite"),
    path("team/transfer/", team.transfer, name="team-transfer"),
    path("team/two-factors/", team.two_factors, name="team-two-factors"),
    path("team/invitations/<uuid:invitation_id>/send/", team.send_again, name="invitation-send"),
    path("team/invitations/<uuid:invitation_id>/withdraw/", team.withdraw, name="invitation-withdraw"),
    path("team/<uuid:member_id>/role/", team.role, name="team-role"),
    path("team/<uuid:member_id>/remove/", team.remove, name="team-remove"),
    path("audit/", audit.page, name="audit"),
    path("audit/export/", audit.export, name="audit-export"),
]

operator_pages: list[URLPattern | URLResolver] = [
    path("", health.health_page, name="operator-health"),
    path("live/", health.live, name="operator-health-live"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", tenants.home, name="home"),
    path("accounts/login/", signin.sign_in, name="sign-in"),
    path("accounts/logout/", signin.sign_out, name="sign-out"),
    path("accounts/second-factor/", signin.second_factor, name="second-factor"),
    path("accounts/passkey/", signin.passkey, name="passkey"),
    path("accounts/passkey/options/", signin.passkey_options, name="passkey-options"),
    path("accounts/prove/", signin.prove, name="prove"),
    path("accounts/reset/", signin.reset, name="reset"),
    path("accounts/signup/", signup.sign_up, name="sign-up"),
    path("accounts/verify/", signup.verify, name="verify"),
    path("accounts/verify/live/", signup.verify_live, name="verify-live"),
    path("accounts/confirm/<str:token>/", signup.confirm, name="confirm"),
    path("join/<str:token>/", joining.join, name="join"),
    path("welcome/<str:token>/", signin.welcome, name="welcome"),
    path("me/language/", preferences.choose_language, name="language"),
    path("me/theme/", preferences.choose_theme, name="theme"),
    path("me/clock/", preferences.choose_clock, name="clock"),
    path("me/", me.page, name="me"),
    path("me/email/", me.address, name="address"),
    path("me/email/<str:token>/", me.confirm_address, name="confirm-address"),
    path("me/password/", me.password, name="password"),
    path("me/security/", security.page, name="security"),
    path("me/security/app/", security.app, name="app"),
    path("me/security/app/remove/", security.app_remove, name="app-remove"),
    path("me/security/codes/", security.codes, name="codes"),
    path("me/security/passkeys/add/", security.passkey_add, name="passkey-add"),
    path("me/security/passkeys/new/", security.passkey_new, name="passkey-new"),
    path("me/security/passkeys/new/options/", security.passkey_new_options, name="passkey-new-options"),
    path("me/security/passkeys/<uuid:passkey_id>/remove/", security.passkey_remove, name="passkey-remove"),
    path("me/security/sessions/end-others/", security.end_other_sessions, name="sessions-end-others"),
    path("me/security/sessions/<uuid:browser_id>/end/", security.end_session, name="session-end"),
    path("tenants/", tenants.choose, name="tenants"),
    path("tenants/new/", tenants.new, name="tenant-new"),
    path("t/<slug:slug>/", include(tenant_pages)),
    path("operator/", include(operator_pages)),
    path("api/v1/", include(api.v1)),
    path("api/", include(api.nothing_here)),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.fault
