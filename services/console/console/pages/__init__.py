"""The pages, a module for each screen. They only read and relay: what may be done, the APIs decide."""

from __future__ import annotations

from starlette.routing import Route

from console.pages import (
    acting,
    finance,
    finding,
    letters,
    members,
    merchants,
    now,
    plans,
    reconciling,
    revealed,
    saga,
    sagas,
    settings,
    views,
)  # fmt: skip


def routes() -> list[Route]:
    """Return the routes of all pages."""
    modules = (
        now, finding, sagas, views, acting, saga, plans, revealed, letters, finance, reconciling, merchants, members,
        settings,
    )  # fmt: skip
    return [route for module in modules for route in module.routes()]
