"""The log stream a person or a collector reads: one line per event of any part, in the order they came.

In a terminal a line is for people, with the part in front; anywhere else it is one JSON object. Parts write JSON lines
themselves; what does not parse (a traceback, a library's own words) is wrapped. Writing never blocks: somebody who starts
us with a pipe and stops reading it must not stop the mail. What then finds no room is dropped, and counted.
"""

from __future__ import annotations

import os
import re
import select
import sys
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

LONGEST_LINE = 16_384
_LEVELS = ("debug", "info", "warning", "error", "critical")
_ROOM = 4_194_304  # bytes kept for a reader who is slow
_CHUNK = 4096  # PIPE_BUF: a pipe that select() calls writable takes this much without blocking
_COLOURS = ("36", "32", "35", "34", "33", "96", "92", "95", "94", "93")

_encode = msgspec.json.Encoder(enc_hook=str).encode
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def escape_controls(text: str) -> str:
    """So that what a peer said can neither move a cursor nor forge a line."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class Output:
    """A file descriptor that is written to as far as its reader keeps up."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0
        self.is_terminal = os.isatty(descriptor)
        self._is_open = True

    @property
    def has_more(self) -> bool:
        return bool(self._waiting)

    def write_line(self, line: str) -> None:
        data = line.encode("utf-8", errors="backslashreplace") + b"\n"
        if not self._is_open:
            return
        if self._size + len(data) > _ROOM:
            self.dropped += 1
            return
        self._waiting += [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        self._size += len(data)
        self.flush()

    def flush(self, *, seconds: float = 0.0) -> None:
        """Writes what the reader takes now, or within so many seconds."""
        while self._waiting and self._is_open:
            if not select.select([], [self.descriptor], [], seconds)[1]:
                return
            try:
                written = os.write(self.descriptor, self._waiting[0])
            except BlockingIOError:
                return
            except OSError:  # the reader has gone; the log goes with it, the mail does not
                self._is_open = False
                self._waiting.clear()
                return
            self._size -= written
            if written < len(self._waiting[0]):
                self._waiting[0] = self._waiting[0][written:]
            else:
                self._waiting.popleft()


class LogStream:
    """Turns the parts' lines into the one stream, on stderr; what is meant for people goes to stdout as it is."""

    def __init__(self, *, log: int | None = None, announcements: int | None = None, level: str = "info") -> None:
        self.log = Output(sys.stderr.fileno() if log is None else log)
        self.announcements = Output(sys.stdout.fileno() if announcements is None else announcements)
        self._shown = _LEVELS[_LEVELS.index(level.lower()) :]
        self._colours: dict[str, str] = {}

    def announce(self, text: str) -> None:
        for line in text.splitlines() or [""]:
            self.announcements.write_line(escape_controls(line))

    def say(self, event: str, *, level: str = "info", **values: object) -> None:
        """An event of the supervisor's own."""
        self._write("server", {"event": event, "level": level, "timestamp": _now(), **values})

    def pass_on(self, part: str, line: str, *, level: str = "info") -> None:
        """A line that a part wrote."""
        event: dict[str, object] | None = None
        if line.startswith("{"):
            try:
                event = msgspec.json.decode(line)
            except ValueError:  # msgspec's own errors are of that kind
                event = None
        if not isinstance(event, dict) or "event" not in event:
            event = {"event": line, "level": level, "timestamp": _now()}
        self._write(part, event)

    def flush(self, *, seconds: float = 0.0) -> None:
        self.log.flush(seconds=seconds)
        self.announcements.flush(seconds=seconds)

    def _write(self, part: str, event: Mapping[str, object]) -> None:
        if self.log.dropped and not self.log.has_more:
            count, self.log.dropped = self.log.dropped, 0
            self.say("log lines were dropped because nobody read them", level="warning", lines=count)
        if event.get("level") in _LEVELS and event["level"] not in self._shown:
            return
        named = {"timestamp": event.get("timestamp"), "level": event.get("level", "info"), "part": part, **event}
        if self.log.is_terminal:
            self.log.write_line(self._for_people(part, named))
        else:
            self.log.write_line(_encode(named).decode())

    def _for_people(self, part: str, event: Mapping[str, object]) -> str:
        colour = self._colours.setdefault(part, _COLOURS[len(self._colours) % len(_COLOURS)])
        level = str(event["level"])
        text = str(event.get("event", ""))
        values = " ".join(
            f"{name}={value}"
            for name, value in event.items()
            if name not in {"event", "level", "timestamp", "part", "logger", "exception", "stack"}
        )
        trace = "".join(f"\n    {line}" for line in str(event.get("exception") or "").splitlines())
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        mark = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}.get(level, "")
        body = escape_controls(text if not values else f"{text}  {values}")
        trace = "\n".join(escape_controls(line) for line in trace.split("\n"))
        reset = "\x1b[0m" if mark else ""
        return f"{clock} \x1b[{colour}m{part:<13}\x1b[0m {mark}{body}{reset}{trace}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
