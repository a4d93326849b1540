"""Liveness and readiness that tell the truth: alive while the loop turns, ready once it may do its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter

from chassis.http.problem import PROBLEM_RESPONSES, Problem

Check = Callable[[], bool]


def router(*, alive: Mapping[str, Check], ready: Mapping[str, Check]) -> APIRouter:
    """Return ``/livez`` and ``/readyz``; each check is named by what it says when it holds."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", responses={503: PROBLEM_RESPONSES[503]})
    def livez() -> dict[str, str]:
        return _answer(alive)

    @routes.get("/readyz", responses={503: PROBLEM_RESPONSES[503]})
    def readyz() -> dict[str, str]:
        return _answer({**alive, **ready})

    return routes


def _answer(checks: Mapping[str, Check]) -> dict[str, str]:
    failing = [name for name, holds in checks.items() if not holds()]
    if failing:
        raise Problem(status=503, title="Not ready", detail=f"Not yet true: {', '.join(failing)}.")
    return {"status": "ok"}
