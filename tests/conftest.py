"""The surroundings of every test: an environment of its own, and a throw-away database for those that ask for one.

Settings are read from the environment when Django is first touched, so the environment is made here, while pytest is still
collecting. The database's address is known from the start; its server is started by the first test that needs it, and
tests in tests/unit never do. Parallel workers (pytest -n) share one server and have a database each.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayweb.processes import throwaway
from relayweb.processes.state import StateError

ROOT = Path(__file__).resolve().parent.parent

# The first process of a test run makes the folder; parallel workers inherit it through the environment.
_FOLDER_VARIABLE, _OWNER_VARIABLE = "RELAYWEB_TEST_FOLDER", "RELAYWEB_TEST_OWNER"
IS_FIRST_PROCESS = "PYTEST_XDIST_WORKER" not in os.environ
if IS_FIRST_PROCESS and os.environ.get(_OWNER_VARIABLE) != str(os.getpid()):
    # /tmp rather than a deep TMPDIR: the path of a unix socket must be short. 0711, so that PostgreSQL's user may pass.
    _base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None
    os.environ[_FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="relayweb-test-", dir=_base)
    os.environ[_OWNER_VARIABLE] = str(os.getpid())
    Path(os.environ[_FOLDER_VARIABLE]).chmod(0o711)
TEST_FOLDER = Path(os.environ[_FOLDER_VARIABLE])
OWNER_PID = int(os.environ[_OWNER_VARIABLE])

# What a developer's shell sets must not change what a test sees; how this machine runs PostgreSQL may.
_KEPT = {"RELAY_VENV", "RELAY_PYTHON", "RELAY_POSTGRES_BIN", "RELAY_POSTGRES_USER"}
for _name in [name for name in os.environ if name.startswith("RELAY_") and name not in _KEPT]:
    del os.environ[_name]
os.environ.pop("DATABASE_URL", None)

TEST_ENVIRONMENT = {
    "RELAY_PROFILE": "development",
    "RELAY_PART": "web",
    "RELAY_NODE": "node1",
    "RELAY_VAR": str(TEST_FOLDER / "var"),
    "RELAY_SECRET_KEY": "a key for tests, known to everybody",
    "RELAY_ENCRYPTION_KEYS": f"test:{base64.b64encode(bytes(range(32))).decode()}",
    "RELAY_HOSTNAME": "relay.test",
    "RELAY_TEST_PROFILE": "1",
    "RELAY_ALLOW_DESTINATIONS": "127.0.0.0/8",
    "RELAY_LOG_LEVEL": "WARNING",
    "RELAY_WEB_STATEMENT_SECONDS": "60",  # tables are emptied between tests, on disks that stand still now and then
    "DJANGO_SETTINGS_MODULE": "relayweb.settings",
    "PYTHONPATH": os.pathsep.join(
        dict.fromkeys([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    ).rstrip(os.pathsep),
}
os.environ.update(TEST_ENVIRONMENT)
(TEST_FOLDER / "var").mkdir(exist_ok=True)


def _address_of(name: str) -> str:
    """Known before the service runs; making it only writes two folders."""
    return throwaway.service(name, TEST_FOLDER).url()


_no_postgres: StateError | None = None
try:
    os.environ["RELAY_DATABASE_URL"] = _address_of("postgres")
except StateError as _error:  # said by the first test that needs it; the others do not care
    _no_postgres = _error
    os.environ["RELAY_DATABASE_URL"] = "postgresql://relayweb@/relayweb?host=/nonexistent"
os.environ["RELAY_BROKER_URL"] = _address_of("broker")


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("django"):  # `-p no:django` tests what needs none of it, such as delivery.core
        import django

        django.setup()


# Quick ones first. Browser tests last: Playwright's event loop stays in this thread, where no other could then be run.
_ORDER = ("unit", "integration", "acceptance", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT / "tests").parts[0] if item.path.is_relative_to(ROOT / "tests") else ""
        return _ORDER.index(folder) if folder in _ORDER else 0

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # where tests run in parallel (script/test without arguments)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from tests.support.parallel import ByFile

    return ByFile(config, log)


def _clean_up() -> None:
    """At the end of the first process, even of one that pytest refused to start."""
    if os.getpid() != OWNER_PID or not TEST_FOLDER.exists():
        return
    # A service that runs keeps its own folder, and removes it once this process is gone.
    kept = {*throwaway.SERVICES, *(f"{name}.lock" for name in throwaway.SERVICES)}
    for path in TEST_FOLDER.iterdir():
        if path.is_dir() and (path.name not in kept or not (TEST_FOLDER / f"{path.name}.lock").exists()):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        TEST_FOLDER.rmdir()


atexit.register(_clean_up)


# ---------------------------------------------------------------- services


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of the throw-away server's first database, which stays empty: tests use `db` and `database_url`."""
    if _no_postgres is not None:
        pytest.fail(f"no PostgreSQL for the tests: {_no_postgres}", pytrace=False)
    throwaway.ensure_running("postgres", TEST_FOLDER, owner_pid=OWNER_PID)
    return os.environ["RELAY_DATABASE_URL"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: str, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """pytest-django asks for this before it makes the test database: the moment to start the server."""


@pytest.fixture(scope="session")
def broker() -> str:
    """The URL of a running broker."""
    throwaway.ensure_running("broker", TEST_FOLDER, owner_pid=OWNER_PID)
    return os.environ["RELAY_BROKER_URL"]


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """The URL of the test database, for programs of their own; what they are to see must be committed."""
    from django.db import connection

    return throwaway.service("postgres", TEST_FOLDER).url(str(connection.settings_dict["NAME"]))  # type: ignore[call-arg]


@pytest.fixture
def part_environment(database_url: str, var: Path) -> dict[str, str]:
    """The environment for a part of relayweb that a test starts: the test database, a state directory of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "RELAY_DATABASE_URL": database_url,
        "RELAY_VAR": str(var),
    }


# ---------------------------------------------------------------- small things


@pytest.fixture
def var() -> Iterator[Path]:
    """An empty state directory with a path short enough for sockets, passable for PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix="var-", dir=TEST_FOLDER))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def free_port() -> Callable[..., int]:
    """Gives a port on which nothing listened a moment ago, another one at each call."""
    given: set[int] = set()

    def find(host: str = "127.0.0.1") -> int:
        while True:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.bind((host, 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find
