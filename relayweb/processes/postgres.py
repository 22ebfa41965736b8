"""The embedded PostgreSQL: an own small launcher over binaries that come with a wheel, or with the system.

Promises: never as root (it is started as RELAY_POSTGRES_USER, `postgres` or `nobody`), reachable through a unix socket in a
0700 folder only, scram passwords, and the three settings that durability stands on (fsync, synchronous_commit,
full_page_writes) given on the command line, where no configuration file can weaken them. It ends with whoever started it
and recovers from `kill -9` at its next start.

What cannot work is refused with a sentence (DatabaseError): a data directory of another major version, a folder its user
cannot reach, missing binaries. The wheel's own Python layer is not imported: it adds a system user, opens folders to
everybody and trusts every local connection.

The throw-away mode (tests) gives durability up for speed; it is refused for a state directory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from relayweb.processes import children
from relayweb.processes.postgres_binaries import (
    Account,
    Binaries,
    DatabaseError,
    choose_account,
    closed_folder_above,
    find_binaries,
    process_owner,
    reachable_binaries,
    user_name,
)
from relayweb.processes.state import State, make_private_folder, write_privately

SUPERUSER = "relayweb"
DATABASE = "relayweb"
PORT = 5432
START_SECONDS = 60.0  # recovery after a crash replays the log written since the last checkpoint
STOP_SECONDS = 30.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "192MB",
    "max_connections": "200",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "15s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
}
THROW_AWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "1min",
    "shared_buffers": "64MB",
}


class Postgres:
    """One embedded server: `prepare`, then run `command` as `owner`, then `ensure_database`."""

    def __init__(
        self,
        home: Path,
        *,
        socket_folder: Path,
        password: str,
        account: Account | None,
        binaries: Binaries,
        is_throw_away: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.data = home / "data"
        self.socket_folder = socket_folder
        self.account = account
        self.binaries = binaries
        self.is_throw_away = is_throw_away
        self.notes = tuple(notes)  # what the person at the terminal should know, in a line each
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, state: State, *, configured_binaries: str | None = None) -> Postgres:
        """The database of a state directory."""
        home = _remembered_home(state)
        account = choose_account(data=home / "data")
        home, notes = _find_home(state, home, account)
        if home.exists() and account is None and home.stat().st_uid != os.geteuid():
            raise DatabaseError(
                f"the database in {home} belongs to {user_name(home.stat().st_uid)}: it was made by another user. "
                "Start as that user (or as root), or name another folder in RELAY_VAR."
            )
        make_private_folder(home, owner=account.owner if account else None)
        socket_folder = state.short_folder(
            "postgres", home / "socket", longest_file=f".s.PGSQL.{PORT}.lock", owner=account.owner if account else None
        )
        return cls(
            home,
            socket_folder=socket_folder,
            password=state.secret("postgres_password", lambda: secrets.token_hex(24)),
            account=account,
            binaries=reachable_binaries(find_binaries(configured_binaries), home, account),
            notes=notes,
        )

    @classmethod
    def throw_away(cls, folder: Path, *, password: str, configured_binaries: str | None = None) -> Postgres:
        """A server without durability in a temporary folder, for tests."""
        account = choose_account()
        closed = closed_folder_above(folder / "postgres" / "data", account)
        if closed is not None and account is not None:
            raise DatabaseError(f"{account.name} cannot pass {closed}; name another temporary folder in TMPDIR.")
        home = folder / "postgres"
        owner = account.owner if account else None
        make_private_folder(home, owner=owner)
        make_private_folder(home / "socket", owner=owner)
        return cls(
            home,
            socket_folder=home / "socket",
            password=password,
            account=account,
            binaries=reachable_binaries(find_binaries(configured_binaries), home, account),
            is_throw_away=True,
        )

    # ------------------------------------------------ how to reach it

    def url(self, database: str = DATABASE) -> str:
        return database_url(self.socket_folder, password=self._password, database=database)

    def role_url(self, part: str, password: str) -> str:
        """For a part's own role (relayweb.processes.database_roles)."""
        return database_url(self.socket_folder, user=f"{DATABASE}_{part}", password=password, database=DATABASE)

    @property
    def exists(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    # ------------------------------------------------ what the supervisor needs

    def prepare(self) -> None:
        """Makes the data directory if there is none, and clears what a killed predecessor left behind."""
        if self.exists:
            self._check_version()
            self._clear_predecessor()
        else:
            self._initialise()

    def command(self) -> list[str]:
        settings = SETTINGS | (THROW_AWAY_SETTINGS if self.is_throw_away else {})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [
            self.binaries["postgres"], "-D", str(self.data), "-p", str(PORT),
            "-c", f"unix_socket_directories={_quoted_for_list(self.socket_folder)}", *options,
        ]  # fmt: skip

    @property
    def owner(self) -> dict[str, object]:
        return process_owner(self.account)

    def is_ready(self) -> bool:
        """Whether the server accepts connections, by the state it writes into the eighth line of postmaster.pid."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def ensure_database(self) -> None:
        """Creates our database in a new cluster. Needs a server that is ready."""
        import psycopg

        made = self.home / "database.made"
        if made.exists():
            return
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
        made.touch()

    # ------------------------------------------------ alone, without a supervisor

    def start(self) -> None:
        """Starts the server as our child and returns when it accepts connections. Call it from the main thread."""
        self.prepare()
        log = self.home / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                preexec_fn=children.die_with_parent(signal.SIGINT),
                **self.owner,  # type: ignore[call-overload]
            )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if process.poll() is not None:
                self._process = None
                raise DatabaseError(f"PostgreSQL did not start:\n{log.read_text(errors='replace').strip()}")
            if time.monotonic() > deadline:
                self.stop()
                raise DatabaseError(f"PostgreSQL was not ready within {START_SECONDS:.0f} s (see {log}).")
            time.sleep(0.01)
        self.ensure_database()

    def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back, everything committed is on disk."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)  # stops at once, as a crash would; the next start recovers
            process.wait(STOP_SECONDS)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    # ------------------------------------------------ inside

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(self.binaries.major):
            raise DatabaseError(
                f"the database in {self.data} was made by PostgreSQL {found}, but the programs here are PostgreSQL "
                f"{self.binaries.version}. Start it with programs of version {found} (name their folder in "
                "RELAY_POSTGRES_BIN), write it out with pg_dump, move the folder away, and read the dump into a new one."
            )

    def _initialise(self) -> None:
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.home / "password.new"
        write_privately(password_file, self._password + "\n", owner=self.account.owner if self.account else None)
        modern = self.binaries.major >= 17
        command = [
            self.binaries["initdb"], "-D", str(unfinished), "--username", SUPERUSER, "--auth=scram-sha-256",
            "--pwfile", str(password_file), "--encoding=UTF8", "--no-instructions", "--data-checksums",
            # The builtin provider's order never changes under an index when the system's libc is upgraded.
            *(["--locale-provider=builtin", "--locale=C.UTF-8"] if modern else ["--locale=C.UTF-8"]),
            *(["--no-sync"] if self.is_throw_away else []),
        ]  # fmt: skip
        try:
            made = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                check=False,
                **self.owner,  # type: ignore[call-overload]
            )
            if made.returncode != 0:
                raise DatabaseError(
                    f"initdb could not make a database:\n{made.stdout.decode(errors='replace').strip()}"
                )
        except OSError as error:
            raise DatabaseError(f"initdb could not be started: {error}") from error
        finally:
            password_file.unlink(missing_ok=True)
        (self.home / "database.made").unlink(missing_ok=True)
        unfinished.rename(self.data)

    def _clear_predecessor(self) -> None:
        """Waits for, or ends, a server that outlived its supervisor; removes a pid file that names nobody.

        PostgreSQL does the latter itself, unless the number now belongs to another process of the same user.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        deadline = time.monotonic() + STOP_SECONDS
        asked = False
        while self._is_server_of_ours(pid):
            if time.monotonic() > deadline:
                raise DatabaseError(f"another PostgreSQL (process {pid}) is still using {self.data}.")
            if not asked:
                os.kill(pid, signal.SIGINT)
                asked = True
            time.sleep(0.02)
        if pid_file.exists() and not self._is_server_of_ours(pid):
            pid_file.unlink(missing_ok=True)

    def _is_server_of_ours(self, pid: int) -> bool:
        """The server's working directory is its data directory."""
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self.data.resolve() and children.is_alive(pid)
        except OSError:
            return False


def database_url(socket_folder: Path, *, password: str, database: str, user: str = SUPERUSER) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={quote(str(socket_folder), safe='/')}"


def _quoted_for_list(folder: Path) -> str:
    """unix_socket_directories is a list: a folder with a comma or a space needs quotes of its own."""
    escaped = str(folder).replace('"', '""')
    return f'"{escaped}"'


def _remembered_home(state: State) -> Path:
    with contextlib.suppress(FileNotFoundError):
        return Path((state.folder / "postgres.location").read_text(encoding="utf-8").strip())
    return state.folder / "postgres"


def _find_home(state: State, home: Path, account: Account | None) -> tuple[Path, list[str]]:
    """Where the database of this state directory lives, and a line about it when that is not inside it.

    As root the state directory may lie below a folder that PostgreSQL's user cannot pass (a clone in /root). Opening that
    folder is not ours to do, so the database then lives below /var/lib; the state directory remembers where.
    """
    closed = closed_folder_above(home, account)
    if account is None or closed is None:
        return home, []
    if (home / "data").exists():
        raise DatabaseError(
            f"the database in {home} cannot be reached any more: {closed} is closed to {account.name}, as whom PostgreSQL "
            f"runs. Open it (chmod o+x {closed})."
        )
    elsewhere = Path("/var/lib/relayweb") / state.short_hash
    number = 1
    while elsewhere.exists():  # left by a state directory that stood here before and is gone, with its password
        number += 1
        elsewhere = elsewhere.with_name(f"{state.short_hash}-{number}")
    try:
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        elsewhere.parent.chmod(0o755)
    except OSError as error:
        raise DatabaseError(
            f"{account.name}, as whom PostgreSQL runs, cannot pass {closed}, and /var/lib/relayweb cannot be made "
            f"({error.strerror}). Open {closed} (chmod o+x), or name another folder in RELAY_VAR."
        ) from error
    if closed_folder_above(elsewhere, account) is not None:
        raise DatabaseError(
            f"{account.name}, as whom PostgreSQL runs, can pass neither {closed} nor /var/lib/relayweb. "
            "Name an open folder in RELAY_VAR."
        )
    (state.folder / "postgres.location").write_text(f"{elsewhere}\n", encoding="utf-8")
    return elsewhere, [
        f"{closed} is closed to {account.name}, as whom PostgreSQL runs: the database lives in {elsewhere} instead"
    ]
