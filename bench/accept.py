"""Taking mail over, durably, while nothing is delivered: relayweb and Postfix.

    sudo .venv/bin/python bench/accept.py [--of small large logins] [--rounds 3] [--mails 10000]

- small, large   4 KB and 100 KB that cannot be compressed, by smtp-source in 20 sessions that stay open, from a network that
                 need not log in
- logins         4 KB, each in a connection of its own with STARTTLS and AUTH, by a TLS client of several processes; Postfix
                 asks Dovecot; ECDSA on both sides

Both answer 250 after fsync. relayweb stores content, recipients, events and queue entries, checks suppressions, quotas and the
author's domain, and keeps its source address paused; Postfix has its deliveries deferred by `defer_transports`. Both in turn,
so many rounds; the best of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import certificate, dovecot, logins, postfix, surroundings
from bench.support.names import Names
from bench.support.relay import TENANT, Relay, free_port, running, spent
from bench.support.smtp_source import SESSIONS, hand_over, write_body
from bench.support.surroundings import say

_SIZES = {"small": 4_096, "large": 102_400, "logins": 4_096}
_MUST = {"small": 2.5, "large": 1.1, "logins": 1.0}
_GOAL = {"small": 4.0, "large": 1.5, "logins": 1.3}
_USERNAME, _SECRET = "bench", "a-secret-of-the-benchmark"
HOSTS = {f"d{n}.example": f"127.1.0.{n + 1}" for n in range(SESSIONS)}
RECIPIENTS = [f"someone@{domain}" for domain in HOSTS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--of", nargs="+", choices=list(_SIZES), default=list(_SIZES))
    parser.add_argument("--mails", type=int, default=10_000, help="of 4 KB; a fifth of it elsewhere")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    surroundings.enter()
    figures: dict[str, object] = {"rounds": options.rounds}
    met = True
    why_not = postfix.why_not() or dovecot.why_not()
    with surroundings.folder("accept") as folder:
        certified = certificate.write(folder)
        for kind in options.of:
            mails = options.mails if kind == "small" else options.mails // 5
            body = write_body(folder / kind, _SIZES[kind])
            with _relayweb(folder / f"relay-{kind}", certified) as relay:
                before = relay.cpu_seconds()
                ours = max(_relay_pace(relay, kind, body, mails) for _ in range(options.rounds))
                used = spent(before, relay.cpu_seconds())
            figures[kind] = found = {"mails": mails, "relayweb_per_s": round(ours), "relayweb_cpu_s": used}
            if why_not:
                found["no_peer"] = why_not
                continue
            with _postfix(folder / f"postfix-{kind}", certified) as port:
                theirs = max(_postfix_pace(port, kind, body, mails) for _ in range(options.rounds))
            times = round(ours / theirs, 2)
            found |= {"postfix_per_s": round(theirs), "times_postfix": times, "must": _MUST[kind], "goal": _GOAL[kind]}
            met = met and times >= _MUST[kind]
    surroundings.report("accept", **figures, met=met)
    return 0 if met else 1


@contextmanager
def _relayweb(folder: Path, certified: tuple[Path, Path]) -> Iterator[Relay]:
    folder.mkdir()
    folder.chmod(0o711)
    files = {"RELAY_TLS_CERT": str(certified[0]), "RELAY_TLS_KEY": str(certified[1])}
    with Names(HOSTS) as names, running(folder, outbound_port=free_port(), dns=names.address, **files) as relay:
        for source in relay.command("source", "list"):
            relay.command("source", "pause", source["id"])
        say("relayweb is up")
        yield relay


@contextmanager
def _postfix(folder: Path, certified: tuple[Path, Path]) -> Iterator[int]:
    folder.mkdir()
    folder.chmod(0o711)
    certificate_file, key = certified
    with ExitStack() as parts:
        judged = parts.enter_context(dovecot.running(folder / "dovecot", username=_USERNAME, secret=_SECRET))
        settings = {
            **judged,
            "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, reject",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(certificate_file),
            "smtpd_tls_key_file": str(key),
            "defer_transports": "smtp",
        }
        peer = parts.enter_context(postfix.running(folder / "postfix", port=free_port(), transports={}, **settings))
        say("postfix is up")
        yield peer.port


def _relay_pace(relay: Relay, kind: str, body: Path, mails: int) -> float:
    if kind != "logins":
        return _source_pace("relayweb", relay.port, body, mails)
    issued = relay.command("credential", "issue", "--tenant", TENANT, "--kind", "smtp", "--name", f"{time.time()}")
    return _login_pace("relayweb", relay.port, issued["username"], issued["secret"], body, mails)


def _postfix_pace(port: int, kind: str, body: Path, mails: int) -> float:
    if kind != "logins":
        return _source_pace("postfix", port, body, mails)
    return _login_pace("postfix", port, _USERNAME, _SECRET, body, mails)


def _source_pace(name: str, port: int, body: Path, mails: int) -> float:
    each = mails // len(RECIPIENTS)
    began = time.monotonic()
    hand_over(port, RECIPIENTS, mails=each, body=body)
    return _told(name, each * len(RECIPIENTS) / (time.monotonic() - began))


def _login_pace(name: str, port: int, username: str, secret: str, body: Path, mails: int) -> float:
    content = body.read_bytes().replace(b"\n", b"\r\n")
    return _told(
        name,
        logins.per_second(port, username=username, secret=secret, body=content, recipients=RECIPIENTS, mails=mails),
    )


def _told(name: str, pace: float) -> float:
    say(f"{name}: {pace:.0f} mails a second")
    return pace


if __name__ == "__main__":
    sys.exit(main())
