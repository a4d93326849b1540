"""Divergences of a merchant's payment, as its timeline shows them: what differs from the gateway's own books."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

NUMBER = re.compile(r"[1-9][0-9]{0,18}")
INT64_MAX = 2**63 - 1
LISTED_MAX = 1_000


class Reconciliation(Protocol):
    """What is needed of reconciliation's API."""

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any: ...


def may_have(reference: str, sagas: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a reference is the number of a merchant's payment, as the sagas say that it names."""
    is_number = NUMBER.fullmatch(reference) is not None and int(reference) <= INT64_MAX
    return is_number and any(each.get("type") == "payment" for each in sagas)


def of_payment(api: Reconciliation, payment_id: str) -> list[dict[str, Any]]:
    """Return the divergences of a payment, open or not, in the order in which they were found."""
    found = api.get("/v1/divergences", {"payment_id": payment_id, "limit": LISTED_MAX})["divergences"]
    return sorted(found, key=lambda each: (each["opened_at"], each["divergence_id"]))


def line(found: Mapping[str, Any]) -> str:
    """Return a divergence in one line: what it is, since when, and how it ended."""
    ended = found["state"]
    if found["closed_at"] is not None:
        by = "" if found["closed_by"] is None else f" by {found['closed_by']}: {found['reason']}"
        ended = f"{ended} {found['closed_at']}{by}"
    which = f"{found['kind']} of {found['movement']} at {found['account']}, run {found['first_run']}"
    return f"divergence {found['opened_at']}  {which}  {found['detail']}  {ended} ({found['divergence_id']})"
