"""Registers members, as tellers do, and waits until their accounts are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from baraza.storefront.sacco.people import People, follow
from baraza.terminal import Advance

REGISTERED_AT_ONCE: Final = 100
PAGE: Final = 500


def register(people: People, members: Sequence[Mapping[str, Any]], show: Advance) -> None:
    """Register the members and wait until the accounts of all are open. Raises Stalled."""
    for first in range(0, len(members), REGISTERED_AT_ONCE):
        batch = [dict(each) for each in members[first : first + REGISTERED_AT_ONCE]]
        people.members.call("POST", "/v1/members/bulk", body=batch)
        show(len(batch))
    follow(
        lambda: len(people.members.get("/v1/members", {"state": "REGISTERED", "limit": PAGE})["members"]),
        lambda waiting: waiting == 0,
        "members whose accounts are opened",
    )
