"""Compiles the translation catalogues with Babel, so that neither a start nor a test needs gettext's tools.

python -m relayweb.processes.catalogues    # where no `script/server` does it: after installing and after each upgrade
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relayweb.processes.state import ROOT


class CatalogueError(Exception):
    """A catalogue that cannot be compiled, as a sentence."""


def sources(root: Path = ROOT) -> Iterator[Path]:
    yield from sorted(root.glob("locale/*/LC_MESSAGES/*.po"))


def outdated(root: Path = ROOT) -> list[Path]:
    """Catalogues whose compiled file is missing or older. Looking costs a few system calls."""
    found = []
    for source in sources(root):
        compiled = source.with_suffix(".mo")
        if not compiled.exists() or compiled.stat().st_mtime_ns < source.stat().st_mtime_ns:
            found.append(source)
    return found


def compile_outdated(root: Path = ROOT) -> list[Path]:
    """Compiles what is outdated and returns it. Raises CatalogueError."""
    todo = outdated(root)
    if not todo:
        return []
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import PoFileError, read_po

    for source in todo:
        try:
            with source.open("rb") as file:
                catalogue = read_po(file, locale=source.parent.parent.name, abort_invalid=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".mo", dir=source.parent)
            with os.fdopen(descriptor, "wb") as compiled:
                write_mo(compiled, catalogue)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(source.with_suffix(".mo"))
        except (PoFileError, ValueError) as error:
            raise CatalogueError(f"{source} cannot be compiled: {error}") from error
        except OSError as error:
            raise CatalogueError(
                f"{source.with_suffix('.mo')} cannot be written ({error.strerror}): make its folder writable."
            ) from error
    return todo


if __name__ == "__main__":
    compile_outdated()
