"""The state directory, and who may use it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relayweb.processes.state import InUse, State, StateError, make_private_folder, write_privately


def test_a_second_user_of_a_state_directory_is_told_who_holds_it(var: Path) -> None:
    state = State.open(var)

    with state.lock(), pytest.raises(InUse, match=rf"already running .* \(process {os.getpid()}\)"):
        state.lock().acquire()


def test_a_released_state_directory_can_be_used_again(var: Path) -> None:
    state = State.open(var)

    with state.lock():
        pass

    with state.lock():
        pass


def test_the_running_environment_is_known_only_while_somebody_holds_the_lock(var: Path) -> None:
    state = State.open(var)
    state.record_environment({"RELAY_DATABASE_URL": "postgresql:///x"})

    assert state.running_environment() is None
    with state.lock():
        assert state.running_environment() == {"RELAY_DATABASE_URL": "postgresql:///x"}


def test_a_secret_is_made_once_and_kept_from_others(var: Path) -> None:
    state = State.open(var)

    first = state.secret("secret_key")

    assert state.secret("secret_key") == first
    assert len(first) >= 40
    assert stat.S_IMODE(state.secret_path("secret_key").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match="name another folder in RELAY_VAR"):
        State.open(tmp_path / "file" / "var")


def test_a_long_path_gets_a_short_folder_for_its_sockets(var: Path) -> None:
    state = State.open(var)

    deep = state.short_folder("postgres", var / ("x" * 100), longest_file=".s.PGSQL.5432.lock")
    near = state.short_folder("postgres", var / "near", longest_file=".s.PGSQL.5432.lock")

    assert near == var / "near"
    assert len(str(deep / ".s.PGSQL.5432.lock")) < 107
    assert stat.S_IMODE(deep.stat().st_mode) == 0o700
    deep.rmdir()


def test_a_private_folder_is_no_link_to_somewhere_else(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(StateError, match="belongs to somebody else"):
        make_private_folder(tmp_path / "link")


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")

    write_privately(path, "new")

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
