"""The pages, the API and the wiring, as Django knows them."""

from __future__ import annotations

from django.apps import AppConfig


class RelaywebConfig(AppConfig):
    name = "relayweb"

    def ready(self) -> None:
        from relayweb import checks  # noqa: F401 - importing registers them
