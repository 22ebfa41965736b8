"""Finished settings for programs that hand over mail, with the real host, port and user name of this installation.

The secret stands in them only on the page that shows it once; elsewhere a word says where it goes. User names and
secrets are made of letters, digits and ``.-_``, so that none of these languages needs quoting.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Credential, CredentialKind, Tenant
from delivery.models import DomainState, SendingDomain
from relayweb.env import Endpoint

_EVERYWHERE = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Snippet:
    key: str
    title: str | Promise
    text: str


@dataclass(frozen=True, slots=True)
class Access:
    """Where and as whom a program hands over mail."""

    host: str
    port: int
    tls_port: int
    username: str
    secret: str
    author: str


def access_for(tenant: Tenant, *, username: str = "", secret: str = "", author: str = "") -> Access:
    """Without a credential the places where its user name and secret go; without an author one that will be taken."""
    host, port = _reachable(settings.SUBMISSION_BIND)
    return Access(
        host=host,
        port=port,
        tls_port=_reachable(settings.SUBMISSIONS_BIND)[1],
        username=username or f"{tenant.slug}.xxxxxx",
        secret=secret or gettext("PASSWORD"),
        author=author or author_for(tenant),
    )


def author_for(tenant: Tenant) -> str:
    """An author address that will be taken, if there is one yet."""
    name = (
        SendingDomain.objects.of(tenant)
        .filter(state=DomainState.VERIFIED)
        .order_by("verified_at")
        .values_list("name", flat=True)
        .first()
    )
    return f"hello@{name or settings.ONBOARDING_DOMAIN}"


def _reachable(endpoints: list[Endpoint]) -> tuple[str, int]:
    """What a customer connects to: the host's name, in development the address that is listened on."""
    endpoint = endpoints[0] if endpoints else Endpoint(settings.HOSTNAME, 587)
    is_local = settings.DEVELOPMENT and endpoint.host not in _EVERYWHERE
    return (endpoint.host if is_local else settings.HOSTNAME), endpoint.port


def for_credential(credential: Credential, *, secret: str = "") -> list[Snippet]:
    if credential.kind == CredentialKind.API:
        return _for_key(f"{credential.username}.{secret or gettext('SECRET')}", access_for(credential.tenant))
    if credential.kind == CredentialKind.NETWORK:
        return _without_login(access_for(credential.tenant))
    return for_login(access_for(credential.tenant, username=credential.username or "", secret=secret))


def _for_key(key: str, access: Access) -> list[Snippet]:
    url = settings.PUBLIC_URL.rstrip("/")
    return [
        Snippet(
            "http",
            _("HTTP header"),
            f"{gettext('Address')}: {url}/api/v1/\nAuthorization: Bearer {key}\n",
        ),
        Snippet("api-curl", "curl", _API_CURL.format(url=url, key=key, a=access)),
        Snippet("anymail", "django-anymail", _ANYMAIL.format(url=url, key=key, a=access)),
        Snippet("sendgrid", "SendGrid (Python)", _SENDGRID.format(url=url, key=key, a=access)),
        Snippet("postal", "Postal (curl)", _POSTAL.format(url=url, key=key, a=access)),
    ]


def _without_login(access: Access) -> list[Snippet]:
    return [
        Snippet("smtp", _("SMTP"), _lines((_("Host"), access.host), (_("Port"), f"{access.port} (STARTTLS)"))),
        Snippet("postfix", "Postfix", f"# /etc/postfix/main.cf\nrelayhost = [{access.host}]:{access.port}\n"
                "smtp_tls_security_level = encrypt\n"),
    ]  # fmt: skip


def _lines(*pairs: tuple[str | Promise, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in pairs)


def for_login(access: Access) -> list[Snippet]:
    a = access
    return [
        Snippet(
            "smtp",
            _("SMTP"),
            _lines(
                (_("Host"), a.host),
                (_("Port"), f"{a.port} (STARTTLS) / {a.tls_port} (TLS)"),
                (_("User name"), a.username),
                (_("Password"), a.secret),
            ),
        ),
        Snippet("smtplib", "Python smtplib", _SMTPLIB.format(a=a)),
        Snippet("django", "Django", _DJANGO.format(a=a)),
        Snippet("nodemailer", "Nodemailer", _NODEMAILER.format(a=a)),
        Snippet("rails", "Rails", _RAILS.format(a=a)),
        Snippet("laravel", "Laravel", _LARAVEL.format(a=a)),
        Snippet("wordpress", "WordPress", _WORDPRESS.format(a=a)),
        Snippet("postfix", "Postfix", _POSTFIX.format(a=a)),
        Snippet("exim", "Exim", _EXIM.format(a=a)),
        Snippet("curl", "curl", _CURL.format(a=a)),
    ]


_SMTPLIB = """\
import smtplib
import ssl
from email.message import EmailMessage

message = EmailMessage()
message["From"] = "{a.author}"
message["To"] = "you@example.com"
message["Subject"] = "First mail"
message.set_content("Hello")

with smtplib.SMTP("{a.host}", {a.port}, timeout=30) as smtp:
    smtp.starttls(context=ssl.create_default_context())
    smtp.login("{a.username}", "{a.secret}")
    smtp.send_message(message)
"""

_DJANGO = """\
# settings.py
EMAIL_HOST = "{a.host}"
EMAIL_PORT = {a.port}
EMAIL_USE_TLS = True
EMAIL_HOST_USER = "{a.username}"
EMAIL_HOST_PASSWORD = "{a.secret}"
EMAIL_TIMEOUT = 30
DEFAULT_FROM_EMAIL = "{a.author}"
"""

_NODEMAILER = """\
import nodemailer from "nodemailer";

const transport = nodemailer.createTransport({{
  host: "{a.host}",
  port: {a.port},
  requireTLS: true,
  auth: {{ user: "{a.username}", pass: "{a.secret}" }},
}});

await transport.sendMail({{
  from: "{a.author}",
  to: "you@example.com",
  subject: "First mail",
  text: "Hello",
}});
"""

_RAILS = """\
# config/environments/production.rb
config.action_mailer.delivery_method = :smtp
config.action_mailer.default_options = {{ from: "{a.author}" }}
config.action_mailer.smtp_settings = {{
  address: "{a.host}",
  port: {a.port},
  user_name: "{a.username}",
  password: "{a.secret}",
  authentication: :plain,
  enable_starttls: true
}}
"""

_LARAVEL = """\
# .env
MAIL_MAILER=smtp
MAIL_HOST={a.host}
MAIL_PORT={a.port}
MAIL_USERNAME={a.username}
MAIL_PASSWORD={a.secret}
MAIL_FROM_ADDRESS={a.author}
"""

_WORDPRESS = """\
<?php
// wp-content/mu-plugins/smtp.php
add_filter('wp_mail_from', function () {{ return '{a.author}'; }});
add_action('phpmailer_init', function ($mailer) {{
    $mailer->isSMTP();
    $mailer->Host = '{a.host}';
    $mailer->Port = {a.port};
    $mailer->SMTPSecure = 'tls';
    $mailer->SMTPAuth = true;
    $mailer->Username = '{a.username}';
    $mailer->Password = '{a.secret}';
}});
"""

_POSTFIX = """\
# /etc/postfix/main.cf
relayhost = [{a.host}]:{a.port}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_tls_security_options = noanonymous
smtp_tls_security_level = encrypt

# /etc/postfix/sasl_passwd; then: postmap /etc/postfix/sasl_passwd && postfix reload
[{a.host}]:{a.port} {a.username}:{a.secret}
"""

_EXIM = """\
# routers, before dnslookup
smarthost:
  driver = manualroute
  domains = ! +local_domains
  transport = smarthost_smtp
  route_list = * {a.host}::{a.port}

# transports
smarthost_smtp:
  driver = smtp
  hosts_require_auth = *
  hosts_require_tls = *

# authenticators
smarthost_login:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{a.username}^{a.secret}
"""

_CURL = """\
printf 'From: {a.author}\\nTo: you@example.com\\nSubject: First mail\\n\\nHello\\n' |
  curl --url smtp://{a.host}:{a.port} --ssl-reqd --crlf \\
    --user '{a.username}:{a.secret}' \\
    --mail-from {a.author} --mail-rcpt you@example.com --upload-file -
"""

_API_CURL = """\
curl {url}/api/v1/messages \\
  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
  -d '{{"from": "{a.author}", "to": "you@example.com", "subject": "First mail", "text": "Hello"}}'
"""

_ANYMAIL = """\
# settings.py
EMAIL_BACKEND = "anymail.backends.postal.EmailBackend"
ANYMAIL = {{
    "POSTAL_API_URL": "{url}",
    "POSTAL_API_KEY": "{key}",
}}
DEFAULT_FROM_EMAIL = "{a.author}"
"""

_SENDGRID = """\
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import Mail

mail = Mail("{a.author}", "you@example.com", "First mail", "Hello")
SendGridAPIClient("{key}", host="{url}").send(mail)
"""

_POSTAL = """\
curl {url}/api/v1/send/message \\
  -H 'X-Server-API-Key: {key}' -H 'Content-Type: application/json' \\
  -d '{{"from": "{a.author}", "to": ["you@example.com"], "subject": "First mail", "plain_body": "Hello"}}'
"""
