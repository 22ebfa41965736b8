"""`python -m sandbox` runs the sandbox until SIGTERM or Ctrl-C; `python -m sandbox mailboxes` lists its mailboxes.

Exit codes: 0 stopped as asked, 1 it could not start, 2 wrong usage or environment; both with one sentence on stderr.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import sys
from collections.abc import Callable, Sequence

from sandbox.configuration import Configuration, ConfigurationError, read_configuration
from sandbox.scenarios import mailboxes
from sandbox.server import CannotStartError, Sandbox, load_behaviours

try:
    import uvloop
except ImportError:  # slower, and otherwise the same
    NEW_LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    NEW_LOOP = uvloop.new_event_loop

_WANTED_FILES = 65536


def main(arguments: Sequence[str]) -> int:
    try:
        configuration = read_configuration()
        match list(arguments):
            case []:
                return run(configuration)
            case ["mailboxes"]:
                listed = mailboxes(load_behaviours(configuration).values())
                print(json.dumps(listed, ensure_ascii=False, indent=2))
                return 0
            case _:
                print("Usage: python -m sandbox [mailboxes]", file=sys.stderr)
                return 2
    except ConfigurationError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except CannotStartError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


def run(configuration: Configuration) -> int:
    logging.basicConfig(
        level=configuration.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=NEW_LOOP) as runner:
        runner.run(_serve(configuration))
    return 0


async def _serve(configuration: Configuration) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    sandbox = Sandbox(configuration)
    await sandbox.start()
    print(sandbox.ready_line(), flush=True)
    await stopping.wait()
    await sandbox.stop()


def _raise_file_limit() -> None:
    """Hundreds of sessions on dozens of listeners need more descriptors than many systems allow at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
