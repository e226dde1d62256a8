"""A router that remembers what was written for as long as its application's context lasts."""

from __future__ import annotations

from typing import Any
from weakref import ref

from flask import Flask, current_app, g, has_app_context

from rds_router.core.token import Token
from rds_router.router import Router


class AppRouter(Router):
    """One application's router. Its thread goes on with other clients: what this one wrote ends with his request."""

    def __init__(self, *arguments: Any, app: Flask, **options: Any) -> None:
        # Weakly: a router that holds its application would keep both alive for as long as the extension lives.
        self._app = ref(app)
        super().__init__(*arguments, **options)

    def written_here(self) -> Token | None:
        """What was written in this application's context, by its sessions too."""
        if not self._is_in_context():
            return super().written_here()
        found: Token | None = g.get("_rds_router_written")
        return found

    def _keep(self, token: Token) -> None:
        if self._is_in_context():
            g._rds_router_written = token
        else:
            super()._keep(token)

    def _is_in_context(self) -> bool:
        return has_app_context() and current_app._get_current_object() is self._app()  # type: ignore[attr-defined]
