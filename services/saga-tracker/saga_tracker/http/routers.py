"""Every router of the tracker's API, in the order in which their paths are matched."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from saga_tracker.http import api, list_api, live_api, now_api, operator_api, plan_api, record_api

ROUTERS: Final[tuple[APIRouter, ...]] = (
    list_api.router,
    api.router,
    live_api.router,
    now_api.router,
    operator_api.router,
    plan_api.router,
    record_api.router,
)
