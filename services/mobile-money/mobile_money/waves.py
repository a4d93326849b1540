"""Whether a wave of dividends may begin: the gate of a run. Pure. A wave that is refused comes again later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mobile_money.domain import Float, Verdict
from mobile_money.step_requests import ReserveWave

IN_DOUBT_PER_100_MAX: Final = 1
IN_DOUBT_COUNTED_FROM: Final = 100
"""Of fewer payouts one in doubt says nothing."""
SILENT_AFTER: Final = timedelta(seconds=60)
UNDER_WAY_MAX: Final = 50
"""So many payouts without any result for a minute are a provider that does not call back."""
IN_DOUBT_AFTER: Final = timedelta(minutes=15)
"""What has no outcome for so long is in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The payouts of one short code lately: under way, of those in doubt, ended, and when the last one ended."""

    under_way: int
    in_doubt: int
    ended: int
    last_ended_at: datetime | None
    oldest_sent_at: datetime | None
    is_paused: bool
    is_slowed: bool = False


def decide(request: ReserveWave, own: Float, traffic: Traffic, now: datetime) -> Verdict:
    """Return whether the wave may begin.

    1. Its lane is open, and the provider refuses nothing for too many requests.
    2. Results come: few payouts are in doubt, and the provider calls back.
    3. The float suffices for the wave, its charges, and what is kept for members.
    """
    # 1.
    if traffic.is_paused:
        return Verdict(reason="lane_paused", detail="The lane of dividends is paused.")
    if traffic.is_slowed:
        return Verdict(reason="spike_arrest", detail="The provider refuses requests for being too many.")
    # 2.
    counted = traffic.under_way + traffic.ended
    if counted >= IN_DOUBT_COUNTED_FROM and traffic.in_doubt * 100 > counted * IN_DOUBT_PER_100_MAX:
        return Verdict(reason="in_doubt", detail=f"{traffic.in_doubt} of {counted} payouts are in doubt.")
    since = max(filter(None, (traffic.last_ended_at, traffic.oldest_sent_at)), default=None)
    if traffic.under_way > UNDER_WAY_MAX and since is not None and now - since > SILENT_AFTER:
        return Verdict(reason="silence", detail=f"{traffic.under_way} payouts are under way, and no result comes.")
    # 3.
    if own.free_minor is None:
        return Verdict(reason="unknown_float", detail="The provider has not shown the balance yet.")
    needed = request.amount_minor + request.charge_minor + own.members_reserve_minor
    if own.free_minor < needed:
        return Verdict(reason="insufficient_float", detail=f"{own.free_minor} of {needed} cents are free.")
    return Verdict()
