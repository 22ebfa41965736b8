"""An engine in a process of its own, to be killed: ``python -m tests.support.engine_process node1/worker-1``.

Configured by the environment as a worker is. Says `running` once its event loop runs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Self


class EngineProcess:
    """Started as soon as it is made; killed at the end at the latest."""

    def __init__(self, slot: str, environment: dict[str, str], *, within: Sequence[str] = ()) -> None:
        """``within`` is put before the command: that of a network namespace, say."""
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", __name__, slot],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )

    async def __aenter__(self) -> Self:
        assert self._process.stdout is not None
        said = await asyncio.to_thread(self._process.stdout.readline)
        assert said == "running\n", said
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        if self._process.stdout is not None:
            self._process.stdout.close()


def main(slot: str) -> None:
    import django

    django.setup()
    import uvloop

    from accounts.identifiers import uuid7
    from delivery.engine.engine import Engine
    from delivery.engine.ownership import WorkerIdentity

    async def run() -> None:
        engine = Engine(WorkerIdentity(slot, uuid7(), slot.partition("/")[0], "test"))
        print("running", flush=True)
        await engine.run()

    uvloop.run(run())


if __name__ == "__main__":
    main(sys.argv[1])
