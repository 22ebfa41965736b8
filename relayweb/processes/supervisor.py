"""Runs the parts: starts them in order, restarts what dies, stops them in order.

Single-threaded, on purpose: the kernel's "tell my children when I die" follows the thread that forked them.

When a part dies it is started again after 0.2 s, then 0.4 s … 30 s, and counts as well again once it has been ready for
some seconds. A part that fails five times running before it was ever ready, or ten times afterwards, cannot stay up: then
everything is stopped and the exit code is 1, with the part's last lines. A part that somebody kills from outside while it
is ready is started again at once, however often.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relayweb.processes import children
from relayweb.processes.own_urls import only_own
from relayweb.processes.parts import Part
from relayweb.processes.state import State, StateError
from relayweb.processes.stream import LONGEST_LINE, LogStream

FIRST_DELAY, LONGEST_DELAY = 0.2, 30.0
STABLE_SECONDS = 5.0
FAILURES_AT_START, FAILURES_LATER = 5, 10
# An engine touches its file every few seconds. One that has not for this long is stuck, and its paths are taken over.
STUCK_SECONDS = 60.0
_TAIL_LINES = 30
# How our own programs begin a sentence about what a person has to change: trying again would not help.
HOPELESS = "relayweb cannot start:"
_KILLED = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGQUIT}


class Phase(enum.Enum):
    WAITING = "waiting"  # for what it needs, or for its next start
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DONE = "done"  # a step that succeeded, or a part that was stopped


@dataclass
class Run:
    """What the supervisor knows about one part."""

    part: Part
    phase: Phase = Phase.WAITING
    process: subprocess.Popen[bytes] | None = None
    next_start_at: float = 0.0
    started_at: float = 0.0
    ready_at: float | None = None
    was_ever_ready: bool = False
    failures: int = 0
    alive_at: float | None = None  # when its file was touched first
    is_beating: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    said: list[str] = field(default_factory=list)  # a step's stdout
    pipes: dict[int, bytearray] = field(default_factory=dict)

    @property
    def is_up(self) -> bool:
        return self.phase is Phase.READY or (self.part.is_step and self.phase is Phase.DONE)

    @property
    def is_far_enough(self) -> bool:
        return self.is_up or (not self.part.is_awaited and self.phase is Phase.STARTING)


class Supervisor:
    """`run` returns the exit code of the whole."""

    def __init__(
        self,
        state: State,
        parts: Sequence[Part],
        *,
        environment: Mapping[str, str],
        stream: LogStream,
        when_all_are_up: Callable[[Supervisor], bool] = lambda _supervisor: True,
    ) -> None:
        """`when_all_are_up` is called again and again once every part is up, until it returns True. It must not block."""
        self.state = state
        self.runs = {part.name: Run(part) for part in parts}
        self.environment = dict(environment)
        self.stream = stream
        self._when_all_are_up = when_all_are_up
        self._selector = selectors.PollSelector()
        self._signals: deque[int] = deque()
        self._gave_up: str | None = None
        self._is_complete = False

    # ------------------------------------------------ the loop

    def run(self) -> int:
        wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(wake_reader, selectors.EVENT_READ)
        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        former = {number: signal.signal(number, self._remember) for number in caught}
        former_descriptor = signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        try:
            while not self._must_stop():
                self._start_what_may_start()
                self._look_at_readiness()
                if not self._is_complete and all(run.is_far_enough for run in self.runs.values()):
                    self._is_complete = self._when_all_are_up(self)
                is_settled = self._is_complete and all(run.is_up for run in self.runs.values())
                self._wait(0.5 if is_settled else 0.02)
                self._reap()
            self._stop_everything()
        finally:
            self._kill_what_is_left()
            signal.set_wakeup_fd(former_descriptor)
            for number, handler in former.items():
                signal.signal(number, handler)
            os.close(wake_reader)
            os.close(wake_writer)
        if self._gave_up:
            self.stream.say(f"stopped, because {self._gave_up} could not stay up", level="error")
        self.stream.flush(seconds=0.5)
        return 1 if self._gave_up else 0

    def _remember(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _must_stop(self) -> bool:
        return bool(self._signals) or self._gave_up is not None

    def _wait(self, seconds: float) -> None:
        """Passes on what the parts write, until something happens or the time is over."""
        if self.stream.log.has_more or self.stream.announcements.has_more:
            self.stream.flush()
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, Run):
                self._read(key.data, key.fd)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    # ------------------------------------------------ starting

    def _start_what_may_start(self) -> None:
        now = time.monotonic()
        for run in self.runs.values():
            if run.phase is not Phase.WAITING or now < run.next_start_at:
                continue
            if all(self.runs[name].is_up for name in run.part.needs if name in self.runs):
                self._start(run)

    def _start(self, run: Run) -> None:
        part = run.part
        run.started_at, run.ready_at = time.monotonic(), None
        run.alive_at, run.is_beating = None, False
        run.tail.clear()
        run.said.clear()
        run.phase = Phase.STARTING
        try:
            part.before_start()
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if part.is_step else subprocess.STDOUT,
                cwd=part.working_directory,
                env=self._environment_of(part),
                start_new_session=True,  # Ctrl-C is for us; we stop the parts in their order
                preexec_fn=children.die_with_parent(part.stop_signal),
                **part.owner,  # type: ignore[call-overload]
            )
        except (StateError, OSError) as error:
            run.tail.append(str(error))
            self.stream.say(f"{part.name} cannot be started: {error}", level="error")
            # What a sentence explains does not go away by trying again.
            run.failures = FAILURES_LATER if isinstance(error, StateError) else run.failures + 1
            self._schedule_restart(run)
            return
        run.process = process
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                run.pipes[pipe.fileno()] = bytearray()
                self._selector.register(pipe.fileno(), selectors.EVENT_READ, run)
        self.state.pid_file(part.name).write_text(f"{process.pid}\n", encoding="ascii")

    def _environment_of(self, part: Part) -> dict[str, str]:
        """Services that are not ours, and may run as another user, are told no secrets."""
        named = {"RELAY_PART_NAME": part.name, "RELAY_VAR": str(self.state.folder)}
        if not part.knows_secrets:
            return {"PATH": self.environment.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **named}
        told = only_own(self.environment, part.environment.get("RELAY_PART", ""))
        return {**told, **named, "PYTHONUNBUFFERED": "1", **part.environment}

    def _look_at_readiness(self) -> None:
        now = time.monotonic()
        for run in self.runs.values():
            if run.process is None:
                continue
            if run.phase is Phase.STARTING and not run.part.is_step:
                if run.part.is_ready is None or run.part.is_ready(run.process.pid):
                    self._is_now_ready(run)
            elif run.phase is Phase.READY:
                if run.failures and run.ready_at is not None and now - run.ready_at > STABLE_SECONDS:
                    run.failures = 0
                self._look_for_a_standstill(run)

    def _is_now_ready(self, run: Run) -> None:
        try:
            run.part.after_ready()
        except Exception as error:  # noqa: BLE001 - whatever it was, this start of the part has failed
            self.stream.say(f"{run.part.name} is up but not usable: {error}", level="error")
            run.tail.append(str(error))
            assert run.process is not None
            run.process.send_signal(run.part.stop_signal)
            return
        run.phase, run.ready_at, run.was_ever_ready = Phase.READY, time.monotonic(), True
        self.stream.say(f"{run.part.name} is up", level="debug" if self._is_complete else "info",
                        seconds=round(run.ready_at - run.started_at, 2))  # fmt: skip

    def _look_for_a_standstill(self, run: Run) -> None:
        if run.part.alive_file is None or run.process is None:
            return
        try:
            touched = run.part.alive_file.stat()
        except OSError:
            return
        if run.alive_at is None:
            run.alive_at = touched.st_mtime
        # Only a part that touches its file again after it came up promises to go on doing so.
        run.is_beating = run.is_beating or touched.st_mtime != run.alive_at
        if run.is_beating and time.time() - touched.st_mtime > STUCK_SECONDS:
            self.stream.say(f"{run.part.name} makes no progress and is killed", level="error")
            run.is_beating = False
            run.process.kill()

    # ------------------------------------------------ reading

    def _read(self, run: Run, descriptor: int) -> None:
        buffer = run.pipes.get(descriptor)
        if buffer is None:
            return
        try:
            data = os.read(descriptor, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(descriptor)
            if buffer:
                self._take_line(run, descriptor, bytes(buffer))
            del run.pipes[descriptor]
            return
        buffer += data
        *lines, rest = buffer.split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest = bytearray()
        for line in lines:
            self._take_line(run, descriptor, bytes(line))
        run.pipes[descriptor] = bytearray(rest)

    def _take_line(self, run: Run, descriptor: int, line: bytes) -> None:
        text = line.decode("utf-8", errors="backslashreplace").rstrip("\r")[:LONGEST_LINE]
        stdout = run.process.stdout if run.process is not None else None
        if run.part.is_step and stdout is not None and descriptor == stdout.fileno():
            run.said.append(text)
        elif text.strip():
            run.tail.append(text)
            if not run.part.is_quiet or _sounds_alarming(text):
                self.stream.pass_on(run.part.name, text)

    # ------------------------------------------------ what died

    def _reap(self) -> None:
        for run in self.runs.values():
            process = run.process
            if process is None or process.poll() is None:
                continue
            self._clear(run)
            if run.phase is Phase.STOPPING or (run.part.is_step and process.returncode == 0):
                run.phase = Phase.DONE
            else:
                self._died(run, process.returncode)

    def _clear(self, run: Run) -> None:
        """Reads what the process still said, ends what it left behind, and forgets it."""
        process, run.process = run.process, None
        assert process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its own children, such as a web server's workers
        run.process = process
        for descriptor in list(run.pipes):
            while descriptor in run.pipes:
                before = len(run.pipes[descriptor])
                self._read(run, descriptor)
                if descriptor in run.pipes and len(run.pipes[descriptor]) == before:
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(descriptor)
                    del run.pipes[descriptor]
        run.process = None
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self.state.pid_file(run.part.name).unlink(missing_ok=True)
        if run.part.alive_file is not None:
            run.part.alive_file.unlink(missing_ok=True)

    def _died(self, run: Run, code: int) -> None:
        was_ready = run.ready_at is not None
        was_killed = was_ready and code in _KILLED
        was_stable = run.ready_at is not None and time.monotonic() - run.ready_at > STABLE_SECONDS
        if was_killed or was_stable:
            run.failures = 0
        else:
            run.failures += 1
        if any(line.startswith(HOPELESS) for line in run.tail):
            run.failures = max(FAILURES_AT_START, FAILURES_LATER)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.stream.say(f"{run.part.name} {how}", level="error")
        if run.part.is_quiet:
            for line in list(run.tail)[-3:]:
                self.stream.pass_on(run.part.name, line, level="error")
        self._schedule_restart(run)

    def _schedule_restart(self, run: Run) -> None:
        limit = FAILURES_LATER if run.was_ever_ready else FAILURES_AT_START
        if run.failures >= limit:
            run.phase = Phase.DONE
            self._gave_up = run.part.name
            self.stream.say(f"{run.part.name} cannot stay up; everything is stopped. Its last lines:", level="error")
            for line in run.tail:
                self.stream.pass_on(run.part.name, line, level="error")
            return
        delay = min(FIRST_DELAY * 2 ** max(run.failures - 1, 0), LONGEST_DELAY)
        run.next_start_at = time.monotonic() + delay
        run.phase = Phase.WAITING
        self.stream.say(f"{run.part.name} is started again in {delay:g} s", level="warning")

    # ------------------------------------------------ stopping

    def _stop_everything(self) -> None:
        if self._signals:
            name = signal.Signals(self._signals[0]).name
            self.stream.say(f"stopping ({name}); once more to stop at once")
            self._signals.clear()
        for stage in sorted({run.part.stage for run in self.runs.values()}):
            self._stop_stage([run for run in self.runs.values() if run.part.stage == stage and run.process is not None])

    def _stop_stage(self, runs: list[Run]) -> None:
        now = time.monotonic()
        deadlines = {}
        for run in runs:
            assert run.process is not None
            run.phase = Phase.STOPPING
            deadlines[run.part.name] = now + run.part.stop_seconds
            run.process.send_signal(run.part.stop_signal)
        while any(run.process is not None for run in runs):
            self._wait(0.05)
            self._reap()
            is_impatient = bool(self._signals)
            for run in runs:
                if run.process is not None and (is_impatient or time.monotonic() > deadlines[run.part.name]):
                    if not is_impatient:
                        self.stream.say(f"{run.part.name} did not stop in time and is killed", level="error")
                    self._stop_hard(run)
                    deadlines[run.part.name] = time.monotonic() + 5.0
            self._signals.clear()
        for run in runs:
            self.stream.say(f"{run.part.name} has stopped", level="debug")

    def _stop_hard(self, run: Run) -> None:
        assert run.process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if run.part.stop_signal is signal.SIGINT:  # PostgreSQL: at once, but not in the middle of a write
                run.process.send_signal(signal.SIGQUIT)
            else:
                os.killpg(run.process.pid, signal.SIGKILL)

    def _kill_what_is_left(self) -> None:
        """Only after an error of our own: nothing may outlive us."""
        for run in self.runs.values():
            if run.process is not None and run.process.poll() is None:
                run.process.send_signal(
                    run.part.stop_signal if run.part.stop_signal is signal.SIGINT else signal.SIGKILL
                )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(10)
            if run.process is not None:
                self._clear(run)
        self._selector.close()


def _sounds_alarming(text: str) -> bool:
    """PostgreSQL and the broker report their everyday business too; that is not for the person at the terminal."""
    return any(word in text for word in ("ERROR:", "FATAL:", "PANIC:", "WARNING:", "rror ", "an't "))
