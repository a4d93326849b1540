"""Liveness and readiness endpoints: a process is alive while its loop runs, and ready once it can do its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter

from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem

Check = Callable[[], bool]


def router(*, alive: Mapping[str, Check], ready: Mapping[str, Check]) -> APIRouter:
    """Return ``/livez`` and ``/readyz``. Each check is named by the statement that is true when it passes.

    A check of ``alive`` must return at once: it runs on the event loop.
    """
    routes = APIRouter(route_class=JsonRoute, tags=["health"])

    @routes.head("/livez", include_in_schema=False)
    @routes.get("/livez", responses={503: PROBLEM_RESPONSES[503]})
    async def livez() -> dict[str, str]:  # on the event loop: readiness checks that wait must not delay it
        return _result_of(alive)

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", responses={503: PROBLEM_RESPONSES[503]})
    def readyz() -> dict[str, str]:
        return _result_of({**alive, **ready})

    return routes


def _result_of(checks: Mapping[str, Check]) -> dict[str, str]:
    failing = [name for name, holds in checks.items() if not holds()]
    if failing:
        raise Problem(status=503, title="Not ready", detail=f"Not yet true: {', '.join(failing)}.")
    return {"status": "ok"}
