"""How tests are spread over parallel processes: a file of tests stays in one, and so do all that need the whole service."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

_ACCEPTANCE, _BROWSER = "tests/acceptance/", "tests/browser/"


class ByFile(LoadScopeScheduling):
    """In the order of collection; acceptance, which shares one running service, is one piece, and so are browser tests.

    The process that had the browser gets nothing else: Playwright keeps its event loop there, where no other could be run.
    """

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return next((folder for folder in (_ACCEPTANCE, _BROWSER) if path.startswith(folder)), path)

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down:
            return
        if _BROWSER in self.assigned_work.get(node, {}):
            node.shutdown()
        else:
            super()._reschedule(node)
