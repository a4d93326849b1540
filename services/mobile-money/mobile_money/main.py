"""The mobile-money process."""

from __future__ import annotations

from chassis.process import service
from chassis.process.service import Dependencies, Service
from mobile_money import api, short_codes
from mobile_money.handlers import HANDLERS


def build(dependencies: Dependencies) -> Service:
    """Wire the service. Raises InvalidShortCodes."""
    short_codes.read(dependencies.settings.short_codes_file)  # a flaw in the file ends the start, and names itself
    return Service(handlers=HANDLERS, app=api.application(dependencies))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
