"""Stands between a program and the database's socket, and can be severed: to the program the database is then away."""

from __future__ import annotations

import asyncio
from pathlib import Path


class SeverableSocket:
    """Listens in ``folder`` under the name libpq looks for and passes everything on, until severed."""

    def __init__(self, folder: Path, *, target_folder: str, port: str) -> None:
        self.folder = folder
        self._name = f".s.PGSQL.{port or 5432}"
        self._target = f"{target_folder}/{self._name}"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def join(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.folder / self._name))

    async def sever(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        (self.folder / self._name).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond, there = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, there}
        await asyncio.gather(self._pass_on(reader, there), self._pass_on(beyond, writer))
        self._writers -= {writer, there}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while octets := await reader.read(65536):
                writer.write(octets)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
