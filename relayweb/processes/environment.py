"""What the parts find in their environment when `script/server` or `script/relay` starts them.

The person's own RELAY_ variables always win. What is left open in the development profile is filled in here: embedded
services, keys and a certificate kept in the state directory, and the sandbox as the world that mail is sent to. In the
production profile nothing is made up but the addresses of the embedded services.
"""

from __future__ import annotations

import base64
import secrets
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relayweb import env
from relayweb.env import is_given
from relayweb.processes.broker import Broker
from relayweb.processes.own_urls import OWN_URLS
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import State, write_privately

_CERTIFICATE_LIFETIME = timedelta(days=397)

SANDBOX_DEFAULTS = {
    "RELAY_SANDBOX_DNS_BIND": "127.0.0.1:8053",
    "RELAY_SANDBOX_SMTP_PORT": "8024",
    "RELAY_SANDBOX_HTTP_BIND": "127.0.0.1:8025",
    "RELAY_RETRY_SCHEDULE": "5,10,20,40",
}


def profile() -> str:
    """Development unless services of another machine are named: then it is meant seriously."""
    is_external = is_given("DATABASE_URL") or is_given("BROKER_URL")
    return env.choice("PROFILE", ("development", "production"), "production" if is_external else "development")


def has_roles() -> bool:
    """Whether the parts reach the embedded database by roles of their own. Of an external one the operator makes them."""
    return env.flag("DATABASE_ROLES", True)


def role_password(state: State, part: str) -> str:
    return state.secret(f"database_{part}", lambda: secrets.token_hex(24))


def sandbox_is_on() -> bool:
    return env.flag("SANDBOX", profile() == "development")


def node_name() -> str:
    return env.text("NODE", socket.gethostname().split(".")[0] or "node1")


def fill_in(state: State, *, postgres: Postgres | None, broker: Broker | None) -> dict[str, str]:
    """The RELAY_ variables that the person left open. A service that is None is external, or not wanted."""
    found = {
        "RELAY_PROFILE": profile(),
        "RELAY_VAR": str(state.folder),
        "RELAY_NODE": node_name(),
        "RELAY_SANDBOX": "on" if sandbox_is_on() else "off",
    }
    if postgres is not None:
        found["RELAY_DATABASE_URL"] = postgres.url()
        if has_roles():
            found |= {name: postgres.role_url(part, role_password(state, part)) for part, name in OWN_URLS.items()}
    if broker is not None:
        found["RELAY_BROKER_URL"] = broker.url()
        if not is_given("CACHE_URL"):
            found["RELAY_CACHE_URL"] = broker.cache_url()
    if profile() == "development":
        found |= _development_secrets(state)
    if sandbox_is_on():
        found |= _sandbox()
    return {name: value for name, value in found.items() if not is_given(name.removeprefix("RELAY_"))}


def _development_secrets(state: State) -> dict[str, str]:
    state.secret("secret_key")
    state.secret(
        "encryption_keys", lambda: f"{datetime.now(UTC):%Y-%m}:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    )
    state.secret("metrics_token", lambda: secrets.token_urlsafe(24))
    found = {
        "RELAY_SECRET_KEY_FILE": str(state.secret_path("secret_key")),
        "RELAY_ENCRYPTION_KEYS_FILE": str(state.secret_path("encryption_keys")),
        "RELAY_METRICS_TOKEN_FILE": str(state.secret_path("metrics_token")),
    }
    found = {
        name: path for name, path in found.items() if not is_given(name.removeprefix("RELAY_").removesuffix("_FILE"))
    }
    if not is_given("TLS_CERT") and not is_given("TLS_KEY"):
        certificate, key = ensure_certificate(state.folder / "tls", hostname=env.text("HOSTNAME", "localhost"))
        found |= {"RELAY_TLS_CERT": str(certificate), "RELAY_TLS_KEY": str(key)}
    return found


def _sandbox() -> dict[str, str]:
    dns = env.text("SANDBOX_DNS_BIND", SANDBOX_DEFAULTS["RELAY_SANDBOX_DNS_BIND"]).split(",")[0]
    return SANDBOX_DEFAULTS | {
        "RELAY_TEST_PROFILE": "1",
        "RELAY_DNS": dns,
        "RELAY_OUTBOUND_PORT": env.text("SANDBOX_SMTP_PORT", SANDBOX_DEFAULTS["RELAY_SANDBOX_SMTP_PORT"]),
        "RELAY_ALLOW_DESTINATIONS": "127.64.0.0/16",
        "RELAY_WEBHOOK_DESTINATIONS": "127.0.0.0/8,::1/128",
    }


def ensure_certificate(folder: Path, *, hostname: str) -> tuple[Path, Path]:
    """A self-signed certificate for this machine's names, renewed a month before it ends or when the name changes."""
    certificate_path, key_path, names_path = folder / "certificate.pem", folder / "key.pem", folder / "names"
    names = list(dict.fromkeys([hostname, "localhost", "localhost.localdomain"]))
    if certificate_path.exists() and key_path.exists() and names_path.exists():
        age = timedelta(seconds=time.time() - certificate_path.stat().st_mtime)
        if age < _CERTIFICATE_LIFETIME - timedelta(days=30) and names_path.read_text(encoding="utf-8").split() == names:
            return certificate_path, key_path

    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(mode=0o700, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_privately(
        key_path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_privately(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    names_path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return certificate_path, key_path
