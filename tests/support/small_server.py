"""A supervisor over small parts of a test's own: python -m tests.support.small_server VAR PARTS.json

Each part is {"name", "code" (Python), "stage"?, "needs"?, "is_step"?, "ready_file"?, "stop_seconds"?}; `ready` is printed when
all are up.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from relayweb.processes.parts import Part
from relayweb.processes.state import State
from relayweb.processes.stream import LogStream
from relayweb.processes.supervisor import Supervisor


def part_of(described: dict[str, object], folder: Path) -> Part:
    ready_file = described.get("ready_file")
    return Part(
        name=str(described["name"]),
        command=(sys.executable, "-S", "-c", str(described["code"])),
        stage=int(str(described.get("stage", 0))),
        needs=tuple(described.get("needs", ())),  # type: ignore[call-overload]
        is_step=bool(described.get("is_step", False)),
        is_ready=(lambda _pid: (folder / str(ready_file)).exists()) if ready_file else None,
        stop_seconds=float(str(described.get("stop_seconds", 5))),
        working_directory=folder,
    )


def main() -> int:
    folder = Path(sys.argv[1])
    described = json.loads(Path(sys.argv[2]).read_text())
    stream = LogStream(level="debug")

    def say_ready(supervisor: Supervisor) -> bool:
        for run in supervisor.runs.values():
            for line in run.said:
                stream.announce(line)
        stream.announce("ready")
        return True

    supervisor = Supervisor(
        State.open(folder),
        [part_of(one, folder) for one in described],
        environment=os.environ,
        stream=stream,
        when_all_are_up=say_ready,
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
