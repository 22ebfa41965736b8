"""The state directory ($RELAY_VAR): where it is, what lies in it, and who may use it.

    run/            pid files, the lock of the running server, environment.json (how to reach the embedded services)
    secrets/        keys and passwords that the development profile makes, each 0600
    tls/            the self-signed certificate of the development profile
    postgres/       the embedded database (postgres.location names another place where this one cannot be used)
    broker/         the embedded broker's append-only file
    sandbox/        the sandbox's inbox, ledger and extra zones

Only one server, or one command with a database of its own, may use a state directory at a time; the lock ends with the
process that holds it, however that process ends. A directory that cannot be used is refused with a sentence.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent.parent

# A unix socket's path has room for 107 bytes (sun_path, with its terminating NUL).
LONGEST_SOCKET_PATH = 107


class StateError(Exception):
    """Why the state directory cannot be used, as a sentence for the person at the terminal."""


class InUse(StateError):
    """Another process holds the state directory."""


def state_directory() -> Path:
    """``RELAY_VAR``, else `var` of the checkout; what was installed from a wheel has none, and uses the current folder's."""
    usual = (ROOT if (ROOT / "manage.py").exists() else Path()) / "var"
    return Path(os.environ.get("RELAY_VAR") or usual).absolute()


class State:
    """A state directory that exists and can be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.secrets = folder / "secrets"
        self.environment_file = self.run / "environment.json"

    @classmethod
    def open(cls, folder: Path | None = None) -> Self:
        """Makes what is missing. The folder itself stays passable (0711), so that PostgreSQL's own user can reach its part."""
        state = cls(folder or state_directory())
        try:
            if not state.folder.exists():
                state.folder.mkdir(parents=True)
                state.folder.chmod(0o711)
            state.run.mkdir(exist_ok=True)
            state.secrets.mkdir(exist_ok=True)
            if state.secrets.stat().st_mode & 0o777 != 0o700:
                state.secrets.chmod(0o700)
            for needed in (state.folder, state.run, state.secrets):
                if not os.access(needed, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(needed))
        except OSError as error:
            raise StateError(
                f"the state directory {state.folder} cannot be used: {error.strerror} ({error.filename}). "
                "Make it writable, or name another folder in RELAY_VAR."
            ) from error
        return state

    @property
    def short_hash(self) -> str:
        """Names things of this state directory that have to live elsewhere."""
        return hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(48)) -> str:
        """The secret of this name, made on first use; returned without surrounding white space."""
        path = self.secret_path(name)
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="utf-8").strip()
        value = make()
        write_privately(path, value + "\n")
        return value

    def secret_path(self, name: str) -> Path:
        return self.secrets / name

    def lock(self) -> Lock:
        return Lock(self)

    def running_environment(self) -> dict[str, str] | None:
        """How to reach the services of the server that holds this state directory, or None when none is running."""
        try:
            with self.environment_file.open(encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return None
        if not is_locked(self.run / "server.lock"):
            return None
        return {str(name): str(value) for name, value in found.items()}

    def record_environment(self, environment: dict[str, str]) -> None:
        write_privately(self.environment_file, json.dumps(environment, indent=1) + "\n")

    def forget_environment(self) -> None:
        self.environment_file.unlink(missing_ok=True)

    def pid_file(self, part: str) -> Path:
        return self.run / f"{part}.pid"

    def short_folder(self, name: str, inside: Path, *, longest_file: str, owner: tuple[int, int] | None = None) -> Path:
        """A 0700 folder for unix sockets: `inside` itself where a path through it is short enough, else a run directory."""
        # A comma would make libpq read the folder as a list of hosts.
        if len(os.fsencode(inside / longest_file)) < LONGEST_SOCKET_PATH and "," not in str(inside):
            folder = inside
        elif os.geteuid() == 0 and os.access("/run", os.W_OK):
            folder = Path("/run") / f"relayweb-{self.short_hash}-{name}"
        else:
            base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
            folder = Path(base) / f"relayweb-{self.short_hash}-{name}"
        make_private_folder(folder, owner=owner)
        return folder


class Lock:
    """The exclusive use of a state directory, held until the process ends or `release` is called."""

    def __init__(self, state: State) -> None:
        self.path = state.run / "server.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises InUse, naming the process that holds the directory."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise InUse(
                f"relayweb is already running with the state directory {self.path.parent.parent} (process {holder}). "
                "Stop it first, or give this one a folder of its own in RELAY_VAR."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_privately(path: Path, content: str | bytes, *, owner: tuple[int, int] | None = None) -> None:
    """Replaces the file in one step; nobody but its owner can ever read it."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if owner is not None:
            os.chown(temporary, *owner)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_private_folder(folder: Path, *, owner: tuple[int, int] | None = None) -> None:
    """A 0700 folder of ours. One that somebody else put there first is refused: sockets in it could be his."""
    wanted = owner or (os.geteuid(), os.getegid())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or found.st_uid not in {wanted[0], os.geteuid()}:
            raise StateError(f"{folder} belongs to somebody else; remove it and start again.")
        if (found.st_uid, found.st_gid) != wanted and os.geteuid() == 0:
            os.chown(folder, *wanted)
        if found.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(f"{folder} cannot be made ({error.strerror}).") from error
