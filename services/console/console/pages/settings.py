"""What a user chooses for this browser: the zone in which times are shown, everywhere at once."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console import web
from console.access import Visit, act, page
from console.rights import LOOK, SIGN_OUT

YEAR_S = 31_536_000


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/zone", zone, methods=["POST"]), Route("/help", keys, methods=["GET"])]


@act(SIGN_OUT)
async def zone(visit: Visit) -> Response:
    """Show times in UTC or in the browser's zone."""
    chosen = visit.form.get("zone", "")
    response = RedirectResponse(web.local_target(visit.form.get("back", "/")), 303)
    if chosen in web.ZONES:
        web.set_cookie(response, web.ZONE_COOKIE, chosen, max_age_s=YEAR_S)
    return response


@page(LOOK)
async def keys(visit: Visit) -> Response:
    """The keys, and what the shapes and colours mean."""
    return visit.render("help.html")
