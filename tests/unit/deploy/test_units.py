"""The files in deploy/ are read by the programs they are written for, and name parts that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relayweb.processes import environment, single
from relayweb.processes.state import State

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SERVICES = sorted((DEPLOY / "systemd").glob("*.service"))


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = _program("systemd-analyze")
    for unit in [*SERVICES, DEPLOY / "systemd" / "relayweb.target"]:
        text = unit.read_text(encoding="utf-8").replace("/opt/relayweb/.venv/bin/python", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")

    said = subprocess.run(
        [analyze, "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in said.stderr.splitlines() if "relayweb" in line]
    assert (said.returncode, ours) == (0, [])


def test_no_unit_is_exposed_more_than_its_work_needs() -> None:
    said = subprocess.run(
        [
            _program("systemd-analyze"),
            "security",
            "--offline=true",
            "--threshold=20",
            "--no-pager",
            *map(str, SERVICES),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_a_unit_is_hardened_and_starts_a_part_that_exists(
    unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GATE", "RETURNS", "WORKER", "WEBHOOK"):
        monkeypatch.setenv(f"RELAY_{name}_PROCESSES", "1")
    monkeypatch.delenv("RELAY_HTTP_BIND", raising=False)
    parts = {part.name: part for part in single.all_parts(State.open(tmp_path))}
    text = unit.read_text(encoding="utf-8")

    started = re.findall(r"relayweb\.processes\.single (\S+)", text)
    part = parts[started[0].replace("%i", "1")]

    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "User=relayweb"} <= set(text.splitlines())
    assert ("CAP_NET_BIND_SERVICE" in text) == (part.stage == parts["gate-1"].stage)
    if (patience := re.search(r"TimeoutStopSec=(\d+)", text)) is not None:
        assert int(patience[1]) > part.stop_seconds


def test_nginx_understands_its_example(tmp_path: Path) -> None:
    nginx = _program("nginx")
    certificate, key = environment.ensure_certificate(tmp_path / "tls", hostname="relay.example.net")
    text = (DEPLOY / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    text = re.sub(r"/etc/letsencrypt\S+fullchain.pem", str(certificate), text)
    text = re.sub(r"/etc/letsencrypt\S+privkey.pem", str(key), text)
    text = text.replace("/var/log/nginx", str(tmp_path)).replace("/run/nginx.pid", str(tmp_path / "pid"))
    # As an ordinary user it may not make its folders where the package has them.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    text = text.replace("http {", "http { " + folders)
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")

    said = subprocess.run(
        [nginx, "-t", "-q", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stderr


def test_haproxy_understands_its_example(tmp_path: Path) -> None:
    haproxy = _program("haproxy")
    certificate, key = environment.ensure_certificate(tmp_path / "tls", hostname="relay.example.net")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    text = (DEPLOY / "proxy" / "haproxy.cfg").read_text(encoding="utf-8")
    config = tmp_path / "haproxy.cfg"
    config.write_text(text.replace("/etc/haproxy/certs/relay.example.net.pem", str(both)), encoding="utf-8")

    said = subprocess.run([haproxy, "-c", "-f", str(config)], capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stderr
