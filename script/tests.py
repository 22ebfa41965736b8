"""script/test: the checks, the catalogues, then pytest with the arguments given (all tests without any).

All tests run in parallel processes, one more than there are cores because many of them wait; a part runs in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))
    from relayweb.processes.catalogues import compile_outdated

    compile_outdated()
    checks = 0
    whole = not any(argument.startswith("tests") for argument in arguments)  # a part is asked for while working
    if whole:
        print("checks:", flush=True)
        checks = subprocess.run([sys.executable, str(ROOT / "script" / "checks.py")], check=False).returncode
        print("\ntests:", flush=True)
        if not any(argument.startswith(("-n", "--numprocesses")) for argument in arguments):
            arguments = [f"--numprocesses={(os.cpu_count() or 1) + 1}", *arguments]
    os.environ["PYTHONPATH"] = str(ROOT)
    tests = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode
    if checks:
        print("the checks above have failed (script/check shows them alone)", file=sys.stderr)
    return tests or checks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
