"""What was answered 250 arrives, and arrives once, while parts are killed: the short form of script/prove.

Client and receiving host keep ledgers that are on disk before anybody is answered, and are not killed themselves.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.crash.faults import FAULTS
from bench.crash.field import open_field
from bench.crash.rounds import rounds_under_load
from tests.conftest import TEST_FOLDER


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where PostgreSQL's own user may pass."""
    made = Path(tempfile.mkdtemp(prefix="crash-", dir=TEST_FOLDER))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(400)
def test_kill_9_of_gate_worker_broker_and_database_loses_nothing(folder: Path) -> None:
    with open_field(folder, seed="short", processes=2) as field:
        verdict = rounds_under_load(field, FAULTS["mixture"], 1, random.Random("short"), every_s=0.02, accepts=200)

    # How soon it went on depends on what else the machine does; script/prove tells.
    assert verdict.is_honest, verdict.as_record()
    assert verdict.still_open == 0
    assert verdict.accepted >= 200
