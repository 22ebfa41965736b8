"""Django settings, read from the environment through relayweb.env.

Delivery workers and gates load a shorter list of applications: neither needs pages, the API or sign-in, and what is not
imported can neither be attacked nor slow a start.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.management.utils import get_random_secret_key

from relayweb import env
from relayweb.processes.own_urls import own_variable
from relayweb.processes.state import state_directory

BASE_DIR = Path(__file__).resolve().parent.parent
# Templates, static files and catalogues: at the top of a checkout, inside the package in a wheel (setup.py).
SHIPPED = BASE_DIR if (BASE_DIR / "manage.py").exists() else Path(__file__).with_name("shipped")

# ---------------------------------------------------------------- which process, which profile
PART = env.choice(
    "PART", ("web", "gate", "returns", "worker", "webhooks", "housekeeping", "beat", "command"), "command"
)
PROFILE = env.choice("PROFILE", ("development", "production"), "production")
DEVELOPMENT = PROFILE == "development"
TEST_PROFILE = env.flag("TEST_PROFILE", False)
VAR = state_directory()
NODE = env.text("NODE", socket.gethostname().split(".")[0] or "node1")

if os.environ.get("DATABASE_URL") and not env.is_given(own_variable(PART, "DATABASE_URL")):
    raise env.ConfigurationError("DATABASE_URL is not read; set RELAY_DATABASE_URL")

DEBUG = False

# ---------------------------------------------------------------- secrets
SECRET_KEY = env.secret("SECRET_KEY", get_random_secret_key() if PART == "command" else None)
SECRET_KEY_FALLBACKS = [key for key in env.secret("SECRET_KEY_FALLBACKS", "").split(",") if key]
ENCRYPTION_KEYS = env.encryption_keys(env.secret("ENCRYPTION_KEYS", ""))
METRICS_TOKEN = env.secret("METRICS_TOKEN", "")


# ---------------------------------------------------------------- database
def _database(url: str) -> dict[str, object]:
    """postgresql://user:password@host:port/name?host=/socket/folder&… as Django wants it."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise env.ConfigurationError("RELAY_DATABASE_URL must begin with postgresql://")
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "relayweb",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": options.pop("port", str(parts.port or "")),
        "CONN_MAX_AGE": None if PART == "web" else 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, "application_name": f"relayweb {PART}", **options},
    }


# A part has a role, and with it a URL, of its own where one is given (relayweb.processes.database_roles).
DATABASE_URL = env.secret(own_variable(PART, "DATABASE_URL"), "postgresql:///relayweb")
DATABASES = {"default": _database(DATABASE_URL)}
# Engines hold LISTEN connections and session locks, which a transaction pooler would break.
DATABASE_DIRECT_URL = env.secret(own_variable(PART, "DATABASE_DIRECT_URL"), DATABASE_URL)
DIRECT_DATABASE = _database(DATABASE_DIRECT_URL)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---------------------------------------------------------------- broker and cache
BROKER_URL = env.secret("BROKER_URL", "redis://127.0.0.1:6379/0")
CACHE_URL = env.secret("CACHE_URL", "")
CACHES = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": CACHE_URL}
        if CACHE_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    ),
    # Never away, and known to one process only: the fallback for counting sign-in tries.
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "process"},
}

# ---------------------------------------------------------------- content outside the database
OBJECT_STORE = env.text("OBJECT_STORE", "")
if OBJECT_STORE and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?", OBJECT_STORE):
    raise env.ConfigurationError(
        f"RELAY_OBJECT_STORE must read s3://bucket or s3://bucket/prefix, not {OBJECT_STORE!r}"
    )
OBJECT_STORE_ENDPOINT = env.text("OBJECT_STORE_ENDPOINT", "").rstrip("/")
if OBJECT_STORE_ENDPOINT and not OBJECT_STORE_ENDPOINT.startswith(("https://", "http://")):
    raise env.ConfigurationError("RELAY_OBJECT_STORE_ENDPOINT must begin with https:// or http://")
OBJECT_STORE_REGION = env.text("OBJECT_STORE_REGION", "us-east-1")
OBJECT_STORE_KEY_ID = env.text("OBJECT_STORE_KEY_ID", "")
OBJECT_STORE_SECRET = env.secret("OBJECT_STORE_SECRET", "")
if bool(OBJECT_STORE_KEY_ID) != bool(OBJECT_STORE_SECRET):
    raise env.ConfigurationError("set both RELAY_OBJECT_STORE_KEY_ID and RELAY_OBJECT_STORE_SECRET, or neither")
# Smaller content, compressed, stays in its row: a request costs more than a row.
OBJECT_STORE_FROM_BYTES = env.integer("OBJECT_STORE_FROM_BYTES", 8192)

# ---------------------------------------------------------------- who we are
HOSTNAME = env.text("HOSTNAME", "localhost.localdomain" if DEVELOPMENT else socket.getfqdn())
HTTP_BIND = env.endpoints("HTTP_BIND", "127.0.0.1:8000")
PUBLIC_URL = env.text("PUBLIC_URL", f"http://{HTTP_BIND[0]}" if DEVELOPMENT else f"https://{HOSTNAME}").rstrip("/")
BOUNCE_DOMAIN = env.text("BOUNCE_DOMAIN", "bounce.relay.test" if DEVELOPMENT else f"bounce.{HOSTNAME}").lower()
PLATFORM_DKIM_DOMAIN = env.text(
    "PLATFORM_DKIM_DOMAIN", "dkim.relay.test" if DEVELOPMENT else f"dkim.{HOSTNAME}"
).lower()
ONBOARDING_DOMAIN = env.text(
    "ONBOARDING_DOMAIN", "onboarding.relay.test" if DEVELOPMENT else f"onboarding.{HOSTNAME}"
).lower()
# The operator's second signature, for feedback loops; empty: off.
FEEDBACK_DOMAIN = env.text("FEEDBACK_DOMAIN", "").lower()
MAIL_FROM = env.text("MAIL_FROM", f"relayweb <no-reply@{'system.relay.test' if DEVELOPMENT else HOSTNAME}>")
# Alerts (delivery.alerts): whom to tell; empty: every operator. Their own server works while mail of ours does not leave.
ALERT_MAIL_TO = env.words("ALERT_MAIL_TO")
ALERT_SMTP_URL = env.secret("ALERT_SMTP_URL", "")
ALERT_WEBHOOK_URL = env.text("ALERT_WEBHOOK_URL", "")
ALERT_WEBHOOK_SECRET = env.secret("ALERT_WEBHOOK_SECRET", "")
ALERT_THRESHOLDS = env.words("ALERT_THRESHOLDS")
EMAIL_BACKEND = "relayweb.mail_backend.EmailBackend"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = MAIL_FROM
SIGNUP = env.choice("SIGNUP", ("open", "approval", "invitation"), "open" if DEVELOPMENT else "invitation")

# New tenants that opened themselves begin with a small daily limit, which rises with clean sending (accounts.trust).
TRUST_LADDER = env.flag("TRUST_LADDER", True)
# How strictly tenants without a level of their own are watched (delivery.brakes).
BRAKES = env.choice("BRAKES", ("none", "standard", "strict"), "standard")

_public = urlsplit(PUBLIC_URL)
if _public.scheme not in {"http", "https"} or not _public.hostname:
    raise env.ConfigurationError("RELAY_PUBLIC_URL must read https://host")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", _public.hostname + (",localhost,127.0.0.1,[::1]" if DEVELOPMENT else ""))
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", f"{_public.scheme}://{_public.netloc}")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
# Each connection from there must begin with a header of the PROXY protocol, which is believed.
GATE_PROXIES = env.networks("GATE_PROXIES")
# Of each web process; what they mean stands in relayweb/serving/bodies.py.
WEB_STATEMENT_SECONDS = env.integer("WEB_STATEMENT_SECONDS", 8, minimum=1, maximum=600)
WEB_THREADS = env.integer("WEB_THREADS", 4, minimum=1, maximum=256)
WEB_CONNECTIONS = env.integer("WEB_CONNECTIONS", 4000, minimum=16)
WEB_BODIES = env.integer("WEB_BODIES", 500, minimum=1)
WEB_BODIES_PER_ADDRESS = env.integer("WEB_BODIES_PER_ADDRESS", 50, minimum=1)
WEB_BODY_SECONDS = env.seconds("WEB_BODY_SECONDS", 20, minimum=0.1)
WEB_BODY_BYTES_PER_SECOND = env.integer("WEB_BODY_BYTES_PER_SECOND", 2000, minimum=1)
WEB_BODIES_HELD_BYTES = env.integer("WEB_BODIES_HELD_BYTES", 2_147_483_648, minimum=1_048_576)

# ---------------------------------------------------------------- SMTP in
SUBMISSION_BIND = env.endpoints("SUBMISSION_BIND", "127.0.0.1:2587")
SUBMISSIONS_BIND = env.endpoints("SUBMISSIONS_BIND", "127.0.0.1:2465")
RETURNS_BIND = env.endpoints("RETURNS_BIND", "127.0.0.1:2525")
TLS_CERT = env.text("TLS_CERT", "")
TLS_KEY = env.text("TLS_KEY", "")
MAX_MESSAGE_BYTES = env.integer("MAX_MESSAGE_BYTES", 26_214_400, minimum=1024)
MAX_RECIPIENTS = env.integer("MAX_RECIPIENTS", 1000, minimum=1)
MAX_HOPS = env.integer("MAX_HOPS", 50, minimum=1)
# Of each gate process; what they mean stands in smtpgate/limits.py.
GATE_CONNECTIONS = env.integer("GATE_CONNECTIONS", 2000, minimum=1)
GATE_CONNECTIONS_PER_ADDRESS = env.integer("GATE_CONNECTIONS_PER_ADDRESS", 50, minimum=1)
GATE_COMMANDS_PER_SESSION = env.integer("GATE_COMMANDS_PER_SESSION", 100_000, minimum=10)
GATE_IDLE_COMMANDS = env.integer("GATE_IDLE_COMMANDS", 100, minimum=5)
GATE_ERRORS = env.integer("GATE_ERRORS", 20, minimum=1)
GATE_COMMAND_SECONDS = env.seconds("GATE_COMMAND_SECONDS", 300)
GATE_STRESS_COMMAND_SECONDS = env.seconds("GATE_STRESS_COMMAND_SECONDS", 10)
GATE_UNPRODUCTIVE_SECONDS = env.seconds("GATE_UNPRODUCTIVE_SECONDS", 600)
GATE_DATA_SECONDS = env.seconds("GATE_DATA_SECONDS", 120)
GATE_DATA_BYTES_PER_SECOND = env.integer("GATE_DATA_BYTES_PER_SECOND", 500, minimum=1)
GATE_CONTENT_MEMORY_BYTES = env.integer("GATE_CONTENT_MEMORY_BYTES", 268_435_456, minimum=1024)
GATE_TLS_HANDSHAKES = env.integer("GATE_TLS_HANDSHAKES", 200, minimum=1)
GATE_TLS_HANDSHAKE_SECONDS = env.seconds("GATE_TLS_HANDSHAKE_SECONDS", 30)
GATE_LOGIN_FAILURES = env.integer("GATE_LOGIN_FAILURES", 5, minimum=1, maximum=5)
GATE_LOGIN_FAILURES_PER_ADDRESS = env.integer("GATE_LOGIN_FAILURES_PER_ADDRESS", 30, minimum=1)
GATE_LOGIN_WINDOW_SECONDS = env.seconds("GATE_LOGIN_WINDOW_SECONDS", 600)
GATE_LOGIN_DELAY_SECONDS = env.seconds("GATE_LOGIN_DELAY_SECONDS", 0.5, minimum=0)
GATE_LOGIN_DELAY_MAXIMUM_SECONDS = env.seconds("GATE_LOGIN_DELAY_MAXIMUM_SECONDS", 8, minimum=0)
GATE_DRAIN_SECONDS = env.seconds("GATE_DRAIN_SECONDS", 20)

# ---------------------------------------------------------------- SMTP out
SMTP_TIMEOUTS = env.text("SMTP_TIMEOUTS", "connect=30,banner=300,command=300,data=120,dot=600")
RETRY_SCHEDULE = env.text("RETRY_SCHEDULE", "")
QUEUE_LIFETIME_SECONDS = env.integer("QUEUE_LIFETIME_SECONDS", 0)  # 0: each stream's own
DSN_DELAY_SECONDS = env.integer("DSN_DELAY_SECONDS", 14_400, minimum=0)  # 0: delays are never told
LEASE_SECONDS = env.seconds("LEASE_SECONDS", 15, minimum=1)
SWEEP_SECONDS = env.seconds("SWEEP_SECONDS", 2)
DOMAIN_RECHECK_SECONDS = env.integer("DOMAIN_RECHECK_SECONDS", 86_400, minimum=1)
DNS = env.endpoint("DNS")
# Blocklists of addresses: which, through which resolver (public ones get no answers), with which key.
BLOCKLISTS = [] if env.text("BLOCKLISTS", "") == "off" else env.words("BLOCKLISTS", "spamhaus_zen,spamcop,mailspike")
DOMAIN_BLOCKLISTS = (
    [] if env.text("DOMAIN_BLOCKLISTS", "") == "off" else env.words("DOMAIN_BLOCKLISTS", "spamhaus_dbl,surbl")
)
BLOCKLIST_DNS = env.endpoint("BLOCKLIST_DNS")
SPAMHAUS_KEY = env.secret("SPAMHAUS_KEY", "")
# Hosts that agreed to be connected to once an hour from each source address.
SMTP_PROBES = env.endpoints("SMTP_PROBES", "off")
# The name servers on this machine validate DNSSEC, and say so truly; of others nobody knows who answered on the way.
DNS_VALIDATES = env.flag("DNS_VALIDATES", False)
if DNS_VALIDATES and DNS is not None and not env.is_loopback(DNS):
    raise env.ConfigurationError("RELAY_DNS_VALIDATES needs a name server on a loopback address in RELAY_DNS")
MTA_STS = env.flag("MTA_STS", True)
DANE = env.choice("DANE", ("auto", "off"), "auto")  # auto: where answers of the DNS are validated

# ---------------------------------------------------------------- webhooks
WEBHOOK_RETRY_SCHEDULE = env.text("WEBHOOK_RETRY_SCHEDULE", "5s,30s,2m,10m,30m,1h,2h,4h,8h,12h")
WEBHOOK_TIMEOUT_SECONDS = env.seconds("WEBHOOK_TIMEOUT_SECONDS", 30, minimum=0.1)
WEBHOOK_DISABLE_AFTER_SECONDS = env.seconds("WEBHOOK_DISABLE_AFTER_SECONDS", 432_000, minimum=1)
WEBHOOK_CALLS_AT_ONCE = env.integer("WEBHOOK_CALLS_AT_ONCE", 32, minimum=1, maximum=256)
WEBHOOK_CALLS_AT_ONCE_PER_TENANT = env.integer("WEBHOOK_CALLS_AT_ONCE_PER_TENANT", 64, minimum=1, maximum=1024)
WEBHOOK_LOG_DAYS = env.integer("WEBHOOK_LOG_DAYS", 7, minimum=1, maximum=90)
WEBHOOK_DEAD_DAYS = env.integer("WEBHOOK_DEAD_DAYS", 30, minimum=1, maximum=365)

# Knobs that would be dangerous on a real relay work only where the test profile is switched on; readiness shows it.
OUTBOUND_PORT = env.integer("OUTBOUND_PORT", 25, minimum=1, maximum=65535) if TEST_PROFILE else 25
ALLOW_DESTINATIONS = env.networks("ALLOW_DESTINATIONS") if TEST_PROFILE else []
# Of webhooks, beside those: a receiver on the developer's own machine. Where any is named, so is any port.
WEBHOOK_DESTINATIONS = ALLOW_DESTINATIONS + (env.networks("WEBHOOK_DESTINATIONS") if TEST_PROFILE else [])
CA_FILE = env.text("CA_FILE", "") if TEST_PROFILE else ""
MTA_STS_PORT = env.integer("MTA_STS_PORT", 443, minimum=1, maximum=65535) if TEST_PROFILE else 443
DNS_TRUST_AD = env.flag("DNS_TRUST_AD", False) if TEST_PROFILE else False
if not TEST_PROFILE:
    for _name in (
        "OUTBOUND_PORT",
        "ALLOW_DESTINATIONS",
        "WEBHOOK_DESTINATIONS",
        "CA_FILE",
        "MTA_STS_PORT",
        "DNS_TRUST_AD",
    ):
        if os.environ.get(f"RELAY_{_name}"):
            raise env.ConfigurationError(f"RELAY_{_name} works only with RELAY_TEST_PROFILE=1")

# ---------------------------------------------------------------- Django
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.postgres",
    "accounts",
    "delivery",
    "smtpgate",
]
if PART not in {"gate", "returns", "worker", "webhooks"}:
    INSTALLED_APPS += [
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "csp",
        "rest_framework",
        "relayweb",
    ]

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
ROOT_URLCONF = "relayweb.urls"
WSGI_APPLICATION = "relayweb.wsgi.application"

# ---- console: pages, sessions, languages, security headers (relayweb.console)
SERVICE_NAME = env.text("SERVICE_NAME", "relayweb")
# Where the operator helps, and on which terms; shown on every page, by links that only https, http and mailto may be.
SUPPORT_URL = env.link("SUPPORT_URL")
TERMS_URL = env.link("TERMS_URL")
# A picture in place of our sign (relayweb.console.logo); looked at by the checks at start.
LOGO_FILE = env.text("LOGO_FILE", "")
if CACHE_URL and PART == "web":
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # A cache that is away must cost a page nothing: one try, given up after a second.
    _patience = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    CACHES["default"]["OPTIONS"] = _patience  # type: ignore[assignment]
_is_https = _public.scheme == "https"
MIDDLEWARE = [
    "relayweb.middleware.ClientAddress",  # first: what follows reads the peer's address and scheme
    "relayweb.middleware.Reference",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "relayweb.middleware.Clock",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",  # "Saved.", told on the page one is led to
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "relayweb.middleware.NoNul",
    "relayweb.middleware.DatabaseAway",
    "relayweb.middleware.RefusedBody",  # last: its page has the language and the fields that every page has
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [SHIPPED / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "relayweb.console.context.console",
            ],
            "builtins": ["relayweb.templatetags.console", "django.templatetags.i18n", "django.templatetags.static"],
            "loaders": [
                ("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"]),
            ],
        },
    }
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"  # signed; no page asks the database for it
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

# Collected, hashed and compressed at start where that has been done (script/server does), else read where they are.
STATIC_URL = "/static/"
STATICFILES_DIRS = [SHIPPED / "static"]
_is_collected = PART == "web" and (VAR / "static" / "staticfiles.json").exists()
STATIC_ROOT = VAR / "static" if _is_collected or PART == "command" else None
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if _is_collected or PART == "command"
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not _is_collected
WHITENOISE_AUTOREFRESH = False

SESSION_ENGINE = "accounts.sessions"
SESSION_COOKIE_NAME = "__Host-relay_session" if _is_https else "relay_session"
SESSION_COOKIE_SECURE = _is_https
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "__Host-relay_csrf" if _is_https else "relay_csrf"
CSRF_COOKIE_SECURE = _is_https
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "relayweb.console.errors.form_too_old"
LANGUAGE_COOKIE_NAME = "relay_language"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SECURE = _is_https
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/"

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"  # filters in addresses of pages may hold mailboxes
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 0 if DEVELOPMENT or not _is_https else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = False  # the operator's other hosts are not ours to decide about
X_FRAME_OPTIONS = "DENY"
# Redirecting to https is the proxy's work; the other two belong to a whole domain, which may have other hosts.
# urls.W002: SendGrid's clients write //v3 where their base ends in a slash.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021", "urls.W002"]
FILE_UPLOAD_HANDLERS = [
    "relayweb.uploads.Bounded",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "frame-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
# ---- end of console

# ---------------------------------------------------------------- HTTP API (relayweb.api)
API_REQUESTS_PER_MINUTE = env.integer("API_REQUESTS_PER_MINUTE", 3000, minimum=1)
API_TENANT_REQUESTS_PER_MINUTE = env.integer("API_TENANT_REQUESTS_PER_MINUTE", 12000, minimum=1)
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {"OAS_VERSION": "3.1.0", "SCHEMA_PATH_PREFIX": "/api/v1/", "COMPONENT_SPLIT_PATCH": False}

LANGUAGE_CODE = "en"
LANGUAGES = [("ja", "日本語"), ("en", "English")]
LOCALE_PATHS = [SHIPPED / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "UTC")

LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
LOGGING_CONFIG = "relayweb.processes.logs.configure"
LOGGING = {"level": LOG_LEVEL}
