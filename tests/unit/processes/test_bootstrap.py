"""The bootstrap: what is installed is not installed again, and what is missing is said in a sentence."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bootstrap() -> ModuleType:
    specification = importlib.util.spec_from_file_location("bootstrap", ROOT / "script" / "bootstrap.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "script" / "bootstrap.py")],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": str(tmp_path / "bin"),
                "HOME": str(tmp_path),
                "RELAY_VENV": str(tmp_path / "a venv"),
                **environment,
            },
        )

    (tmp_path / "bin").mkdir()
    return start


def program(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def environment_at(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_a_second_start_installs_nothing(bootstrap: ModuleType, tmp_path: Path) -> None:
    folder = environment_at(tmp_path / "venv")

    assert not bootstrap.is_installed(str(folder), bootstrap.RUN_LOCK)
    bootstrap.write_stamp(str(folder), bootstrap.RUN_LOCK)
    assert bootstrap.is_installed(str(folder), bootstrap.RUN_LOCK)


def test_a_changed_lock_is_installed_again(bootstrap: ModuleType, tmp_path: Path) -> None:
    folder = environment_at(tmp_path / "venv")
    lock = tmp_path / "requirements.txt"
    lock.write_text("one==1\n")
    bootstrap.write_stamp(str(folder), str(lock))

    lock.write_text("one==2\n")

    assert not bootstrap.is_installed(str(folder), str(lock))


def test_an_environment_whose_python_is_gone_is_not_taken_for_installed(bootstrap: ModuleType, tmp_path: Path) -> None:
    folder = environment_at(tmp_path / "venv")
    bootstrap.write_stamp(str(folder), bootstrap.RUN_LOCK)

    (folder / "bin" / "python").unlink()

    assert not bootstrap.is_installed(str(folder), bootstrap.RUN_LOCK)


def test_a_folder_that_is_no_environment_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a venv").mkdir()
    (tmp_path / "a venv" / "thesis.txt").write_text("years of work")

    done = run()

    assert done.returncode == 1
    assert "is left alone" in done.stderr
    assert (tmp_path / "a venv" / "thesis.txt").exists()


def test_a_python_that_is_too_old_is_refused_with_a_sentence(run: Run, tmp_path: Path) -> None:
    old = program(tmp_path, "python3.9", "echo 3 9 1")

    done = run(RELAY_PYTHON=str(old))

    assert done.returncode == 1
    assert "is not a working Python ≥ 3.11" in done.stderr
    assert not (tmp_path / "a venv").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs Debian's package by itself")
def test_as_root_it_installs_what_plain_debian_lacks(run: Run, tmp_path: Path) -> None:
    bare = program(tmp_path, "python3.11", "echo 3 11 0")
    program(tmp_path / "bin", "apt-get", f'echo "$@" >> "{tmp_path}/asked"; exit 1')

    done = run(RELAY_PYTHON=str(bare))

    assert done.returncode == 1
    assert "install --yes --no-install-recommends python3.11-venv" in (tmp_path / "asked").read_text()
    assert "sudo apt-get install python3.11-venv" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_as_an_ordinary_user_it_prints_the_one_command(tmp_path: Path, var: Path) -> None:
    bare = program(var, "python3.11", "echo 3 11 0")
    program(var, "apt-get", "exit 0")
    script = var / "script"
    script.mkdir(mode=0o755)
    (script / "bootstrap.py").write_bytes((ROOT / "script" / "bootstrap.py").read_bytes())
    for lock in ("requirements.txt", "requirements-dev.txt"):
        (var / lock).write_text("")
    (var / "home").mkdir()
    os.chown(var / "home", 65534, 65534)

    done = subprocess.run(
        ["/usr/bin/python3", str(script / "bootstrap.py")],
        capture_output=True, text=True, check=False, user=65534, group=65534, extra_groups=[], cwd="/",
        env={"PATH": str(var), "RELAY_PYTHON": str(bare), "RELAY_VENV": str(var / "home" / "venv")},
    )  # fmt: skip

    assert done.returncode == 1
    assert "sudo apt-get install python3.11-venv" in done.stderr
