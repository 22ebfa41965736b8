#!/usr/bin/env python3
"""Makes the virtual environment that everything else runs in, and hands over to it.

Standard library only, and written so that an older Python can still read it: it is the one file that runs before
anything is installed. Each step is said in one line on stderr; what is already done is skipped by comparing a stamp with
the SHA-256 of the lock file, so that the next start costs milliseconds. What cannot be done ends the process with a
sentence that says what to change; nothing is left half made (the stamp is written last).

Packages come from wherever the machine's own pip is configured to take them from.
"""

import errno
import hashlib
import os
import shlex
import shutil
import subprocess
import sys

try:
    import fcntl
except ImportError:
    sys.exit("relayweb runs on Linux (it needs fcntl, unix sockets and PostgreSQL's server binaries).")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST_PYTHON = (3, 11)
RUN_LOCK = os.path.join(ROOT, "requirements.txt")
DEV_LOCK = os.path.join(ROOT, "requirements-dev.txt")
# Published as source only. Pure Python, so building it needs no compiler; used by the tests alone.
BUILT_FROM_SOURCE = ("dkimpy",)


class CannotContinue(Exception):
    """What stands in the way, as a sentence for the person at the terminal."""


def say(text):
    sys.stderr.write("bootstrap: " + text + "\n")
    sys.stderr.flush()


def environment_folder():
    return os.path.abspath(os.environ.get("RELAY_VENV") or os.path.join(ROOT, ".venv"))


def python_of(folder):
    return os.path.join(folder, "bin", "python")


# ---------------------------------------------------------------- stamps


def expected_stamp(lock):
    with open(lock, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def stamp_file(folder, lock):
    return os.path.join(folder, "." + os.path.basename(lock) + ".sha256")


def is_installed(folder, lock):
    try:
        with open(stamp_file(folder, lock)) as file:
            return file.read().strip() == expected_stamp(lock) and os.path.exists(python_of(folder))
    except OSError:
        return False


def write_stamp(folder, lock):
    with open(stamp_file(folder, lock), "w") as file:
        file.write(expected_stamp(lock) + "\n")


def remove_stamps(folder):
    for lock in (RUN_LOCK, DEV_LOCK):
        try:
            os.unlink(stamp_file(folder, lock))
        except FileNotFoundError:
            pass


# ---------------------------------------------------------------- a Python to start from


class Interpreter:
    def __init__(self, path, version, has_ensurepip):
        self.path = path
        self.version = version
        self.has_ensurepip = has_ensurepip


def examine(path):
    """The interpreter at `path`, or None where there is none that is new enough and works."""
    question = (
        "import sys, importlib.util as u\n"
        "print(sys.version_info[0], sys.version_info[1], int(bool(u.find_spec('ensurepip') and u.find_spec('venv'))))"
    )
    try:
        answer = subprocess.run(
            [path, "-I", "-c", question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=30
        )
        major, minor, has_ensurepip = (int(word) for word in answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if (major, minor) < OLDEST_PYTHON:
        return None
    return Interpreter(path, (major, minor), bool(has_ensurepip))


def find_interpreter():
    """The first Python that can make an environment at once, else the first that is new enough.

    3.11 comes first, because the lock was resolved and is tested with it.
    """
    chosen = os.environ.get("RELAY_PYTHON")
    names = [chosen] if chosen else ["python3.11", sys.executable, "python3", "python3.12", "python3.13", "python3.14"]
    # A version manager's shim may stand before the system's own interpreter and answer for none.
    paths = [shutil.which(name) for name in names if name] + ([] if chosen else ["/usr/bin/python3.11"])
    usable = []
    for path in dict.fromkeys(path for path in paths if path):
        interpreter = examine(path)
        if interpreter is not None and interpreter.has_ensurepip:
            return interpreter
        if interpreter is not None:
            usable.append(interpreter)
    if usable:
        return usable[0]
    wanted = ".".join(str(part) for part in OLDEST_PYTHON)
    if chosen:
        raise CannotContinue("RELAY_PYTHON={} is not a working Python ≥ {}.".format(chosen, wanted))
    raise CannotContinue(
        "no Python ≥ {0} was found (this one is {1}.{2}). Install it (on Debian 12: apt-get install python3) "
        "or name one in RELAY_PYTHON.".format(wanted, *sys.version_info[:2])
    )


def install_venv_module(interpreter):
    """Plain Debian splits `ensurepip` off into a package of its own."""
    package = "python{}.{}-venv".format(*interpreter.version)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    by_hand = "sudo apt-get install " + package
    if not shutil.which("apt-get"):
        raise CannotContinue("{} cannot make virtual environments (no ensurepip).".format(interpreter.path))
    if os.geteuid() != 0:
        raise CannotContinue(
            "{} cannot make virtual environments yet. Run this once, then start again:\n\n    {}\n".format(
                interpreter.path, by_hand
            )
        )
    say("installing Debian's {} (needed to make a virtual environment)".format(package))
    environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    quiet = {"stdout": subprocess.DEVNULL, "env": environ}
    if subprocess.call(command, stderr=subprocess.DEVNULL, **quiet) != 0:  # most often: no package lists yet
        subprocess.call(["apt-get", "update"], **quiet)
        if subprocess.call(command, **quiet) != 0:
            raise CannotContinue("apt-get could not install {0}. Try it by hand: {1}".format(package, by_hand))


# ---------------------------------------------------------------- the environment


def works(folder):
    """Whether there is an environment here that can run and install: a half-made or moved one cannot."""
    try:
        subprocess.run(
            [python_of(folder), "-c", "import pip, sys; sys.exit(sys.version_info < {!r})".format(OLDEST_PYTHON)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def make_environment(folder):
    if os.path.lexists(folder) and os.path.isdir(folder) and os.listdir(folder):
        if not os.path.exists(os.path.join(folder, "pyvenv.cfg")) and not os.path.exists(python_of(folder)):
            raise CannotContinue(
                "{} exists and is no virtual environment; it is left alone. Name another folder in RELAY_VENV.".format(
                    folder
                )
            )
        say("the environment in {} does not work any more and is made anew".format(folder))
        shutil.rmtree(folder)
    if not os.access(os.path.dirname(folder), os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.path.dirname(folder))
    interpreter = find_interpreter()
    if not interpreter.has_ensurepip:
        install_venv_module(interpreter)
    say("making a virtual environment in {} with {}".format(folder, interpreter.path))
    made = subprocess.run(
        [interpreter.path, "-m", "venv", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotContinue(
            "the virtual environment could not be made:\n{}".format(made.stdout.decode(errors="replace").strip())
        )


def uv_may_be_used(folder):
    """uv is several times faster than pip, but reads none of pip's settings: where those say something, pip it is."""
    if not shutil.which("uv"):
        return False
    settings = subprocess.run(
        [python_of(folder), "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    ).stdout.decode(errors="replace")
    return not any(word in settings for word in ("index-url", "find-links", "no-index", "proxy", "cert", "constraint"))


def install(folder, lock):
    with open(lock) as file:
        count = sum(1 for line in file if "==" in line and not line.startswith(("#", " ")))
    # The lock is complete: nothing is left to be resolved. A resolver that sees a newer coverage behind `coverage[toml]`, which
    # the lock writes without its extra, would want that one and then miss its hash.
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    if lock == DEV_LOCK:
        options += [word for name in BUILT_FROM_SOURCE for word in ("--no-binary", name)]
    options += ["-r", lock]
    with_pip = [python_of(folder), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
    with_uv = [shutil.which("uv") or "uv", "pip", "install", "--quiet", "--python", python_of(folder)]
    use_uv = uv_may_be_used(folder)
    say(
        "installing {} packages from {} with {} ({})".format(
            count, os.path.basename(lock), "uv" if use_uv else "pip", "a few seconds" if use_uv else "half a minute"
        )
    )
    if use_uv:
        attempt = subprocess.run(with_uv + options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if attempt.returncode == 0:
            return
        say("uv could not do it; trying again with pip")
    attempt = subprocess.run(with_pip + options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if attempt.returncode != 0:
        raise CannotContinue(
            "the packages could not be installed. pip said:\n\n{}\n\nrelayweb takes them from the package index that "
            "your pip is configured for; start again when it can be reached.".format(
                attempt.stdout.decode(errors="replace").strip()
            )
        )


def prepare(*, dev=False):
    """Returns the environment's interpreter, having installed what is missing."""
    folder = environment_folder()
    lock = DEV_LOCK if dev else RUN_LOCK
    if is_installed(folder, lock):
        return python_of(folder)
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        # Two commands started side by side must not install into the same folder at once. The lock is on the folder
        # above, which needs no file of its own and no right to write.
        turn = os.open(os.path.dirname(folder), os.O_RDONLY)
        try:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another start is installing; waiting for it")
                fcntl.flock(turn, fcntl.LOCK_EX)
            if is_installed(folder, lock):
                return python_of(folder)
            if not works(folder):
                make_environment(folder)
            # The development lock holds the run-time lock's pins and more, so it stands for both.
            remove_stamps(folder)
            install(folder, lock)
            write_stamp(folder, lock)
            if dev:
                write_stamp(folder, RUN_LOCK)
            say("the environment is ready")
        finally:
            os.close(turn)
    except PermissionError as error:
        raise CannotContinue(
            "{} cannot be written ({}). Make it writable, or name a folder of your own in RELAY_VENV.".format(
                error.filename or folder, error.strerror
            )
        )
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC):
            raise CannotContinue(
                "{}: {}. Name a folder elsewhere in RELAY_VENV.".format(error.filename or folder, error.strerror)
            )
        raise
    return python_of(folder)


def hand_over(arguments, *, dev=False):
    """Replaces this process by the environment's Python with `arguments`; never returns."""
    try:
        python = prepare(dev=dev)
    except CannotContinue as reason:
        say(str(reason))
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; start again to go on")
        sys.exit(130)
    environ = dict(os.environ)
    # So that the project is found from every working directory, and before anything of the same name elsewhere.
    environ["PYTHONPATH"] = os.pathsep.join([ROOT] + [p for p in [environ.get("PYTHONPATH")] if p])
    environ.pop("PYTHONHOME", None)
    os.execve(python, [python] + list(arguments), environ)


def main(arguments):
    unknown = [word for word in arguments if word not in ("--dev", "--help", "-h")]
    if unknown or "--help" in arguments or "-h" in arguments:
        print("usage: script/bootstrap.py [--dev]\n\nMakes or completes the virtual environment and prints its Python.")
        return 2 if unknown else 0
    try:
        print(shlex.quote(prepare(dev="--dev" in arguments)))
    except CannotContinue as reason:
        say(str(reason))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
