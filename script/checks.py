"""script/check: lint, format, types, layers, migrations, catalogues and locks, two at a time; only what fails is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

# The settings need a secret and nothing else: no check talks to a service.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
    "RELAY_PROFILE": "development",
    "RELAY_PART": "web",
    "RELAY_SECRET_KEY": "for checks only",
    "RELAY_DATABASE_URL": "postgresql://nobody@/none?host=/nonexistent",
    "DJANGO_SETTINGS_MODULE": "relayweb.settings",
    "PYTHONPATH": str(ROOT),
}

# The longest first, so that the others fit beside it.
CHECKS: dict[str, list[str]] = {
    "types": [PYTHON, "-m", "mypy"],
    "migrations": [PYTHON, "-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run", "--verbosity", "1"],
    "layers": [PYTHON, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-logo"],
    "lint": [PYTHON, "-m", "ruff", "check", "--quiet", "--output-format", "concise", "."],
    "format": [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."],
    "catalogues": [PYTHON, "script/catalogues.py", "check"],
    "django": [PYTHON, "manage.py", "check"],
    "locks": [PYTHON, "script/checks.py", "--locks"],
}


def run(name: str) -> tuple[str, int, float, str]:
    started = time.monotonic()
    done = subprocess.run(
        CHECKS[name],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return name, done.returncode, time.monotonic() - started, done.stdout.strip()


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def check_locks() -> int:
    """The development lock holds what runs, exactly; every package has hashes; no lock names an index of its own."""
    problems = []
    run_time, development = pins(ROOT / "requirements.txt"), pins(ROOT / "requirements-dev.txt")
    problems += [
        f"requirements-dev.txt has {name}=={development.get(name)}, requirements.txt {version}"
        for name, version in run_time.items()
        if development.get(name) != version
    ]
    for lock in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        problems += [
            f"{lock}: {line}" for line in re.findall(r"^\s*(?:--(?:index|extra|find|trusted)\S*|-[if]\b).*", text, re.M)
        ]
        blocks = re.split(r"^(?=[A-Za-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
        problems += [f"{lock}: no hash for {block.split()[0]}" for block in blocks if "--hash=sha256:" not in block]
    print("\n".join(problems))
    return 1 if problems else 0


def main(arguments: list[str]) -> int:
    if arguments == ["--locks"]:
        return check_locks()
    unknown = [name for name in arguments if name not in CHECKS]
    if unknown:
        print(f"usage: script/check [{' | '.join(CHECKS)}]…", file=sys.stderr)
        return 2
    failed = []
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        for name, code, seconds, output in pool.map(run, arguments or CHECKS):
            print(f"{'ok    ' if code == 0 else 'FAILED'}  {name:<11} {seconds:4.1f} s", flush=True)
            if code != 0:
                failed.append(name)
                print("\n".join(f"        {line}" for line in output.splitlines()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
