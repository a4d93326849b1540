"""``python -m simulators.daraja``: prompts, payouts and reversals as Daraja has them, with books of its own."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators import short_codes
from simulators.problems import EXCEPTION_HANDLERS
from simulators.server import load, serve
from simulators.short_codes import MobileMoneySettings


def build(settings: MobileMoneySettings) -> Starlette:
    """Return the provider's ASGI application."""
    known = short_codes.read(settings.simulator_short_codes)

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ready", "short_codes": len(known.short_codes)})

    routes = [Route(path, healthy, methods=["GET"]) for path in ("/livez", "/readyz")]
    return Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)


if __name__ == "__main__":
    loaded = load(MobileMoneySettings)
    serve(build(loaded), loaded)
