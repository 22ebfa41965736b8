"""Whether the embedded database is known to have every migration, without asking it.

Loading Django only to find that nothing is to do would cost a second of every start. After a successful migration the
state directory remembers a fingerprint of the migrations and of the database cluster; when both are the same, and it is
not so long ago that the partitions made ahead might run out, nothing is to do. An external database may be changed by
others and is always asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from relayweb.processes import environment
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import ROOT, State

# Partitions are made at least seven days ahead, at each migration and every day while relayweb runs.
LONGEST_AGE_SECONDS = 3 * 86_400


_RIGHTS = Path(__file__).with_name("database_roles.toml")


def fingerprint(data: Path) -> str:
    """Changes with any migration file, any locked package, the parts' rights, and with the cluster (its system identifier)."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError), (data / "global" / "pg_control").open("rb") as file:
        digest.update(file.read(8))
    digest.update(b"roles" if environment.has_roles() else b"")
    for path in sorted([*ROOT.glob("*/migrations/*.py"), *ROOT.glob("requirements.txt"), _RIGHTS]):
        digest.update(os.fsencode(path.relative_to(ROOT)) + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def is_current(state: State, postgres: Postgres) -> bool:
    note = state.folder / "migrated"
    try:
        known = note.read_text(encoding="ascii").strip()
        age_seconds = time.time() - note.stat().st_mtime
    except OSError:
        return False
    return 0 <= age_seconds < LONGEST_AGE_SECONDS and postgres.exists and known == fingerprint(postgres.data)


def remember(state: State, postgres: Postgres) -> None:
    (state.folder / "migrated").write_text(fingerprint(postgres.data) + "\n", encoding="ascii")
