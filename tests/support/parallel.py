"""How tests are spread over parallel processes: a file of tests stays in one, and so do all that need the whole service."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

# These share a running service each; Playwright keeps the thread it was started in, where no other event loop can run.
_ALONE = "tests/browser/test_accessibility.py"  # as long as all other browser tests
_TOGETHER = ("tests/acceptance/gate/", "tests/acceptance/journey/", "tests/browser/")


class ByFile(LoadScopeScheduling):
    """Quick files first, in the order of collection; what stays together comes last, each kind in a process of its own."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return path if path == _ALONE else next((folder for folder in _TOGETHER if path.startswith(folder)), path)
