"""What a webhook says: an outcome of an attempt, something that was not requested, or nothing for us. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from chassis.saga.evidence import Claim

KEY = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}:[a-z_]+(:undo|:stray:[0-9]+)?(:[0-9]+)?")
"""One of our keys of an attempt, where a gateway shows what it was given."""
NUMBER = re.compile(r"[1-9][0-9]{0,18}")
INT64_MAX = 2**63 - 1
REFERENCE = re.compile(r"([1-9][0-9]{0,18})(?:-([1-9][0-9]{0,4}))?")
"""A payment as an attempt to authorize it names it to a gateway: its number, and the attempt's where it is no first."""
ATTEMPT = re.compile(r"[^:]+:authorize_gateway(?::stray)?:([1-9][0-9]{0,4})(?::[0-9]+)?")
"""The key of a further attempt to authorize, or of what undoes an attempt that belongs to no step."""


class Kind(enum.StrEnum):
    """What a gateway reports unasked."""

    CAPTURE_FAILED = "CAPTURE_FAILED"
    REFUND_FAILED = "REFUND_FAILED"
    AUTHORIZATION_EXPIRED = "AUTHORIZATION_EXPIRED"
    DISPUTED = "DISPUTED"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a gateway reports unasked about a payment: by its own id of it, or by our number.

    ``gateway_reference`` is its id of what it reports, ``amount_minor`` in ISO's minor units. ``attempt_key`` is ours,
    where the gateway shows it.
    """

    kind: Kind
    gateway_payment_id: str | None
    payment_id: int | None
    gateway_reference: str
    amount_minor: int
    currency: str
    reason: str
    attempt_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One item of a webhook. ``dedupe`` is the same for each delivery of it. Without a claim and a report it is nothing
    for us; ``is_unknown`` where it is about a payment that is not known yet.
    """

    dedupe: str
    event: str
    claim: Claim | None = None
    reported: Reported | None = None
    is_unknown: bool = False

    @property
    def reference(self) -> str | None:
        """The gateway's id of what it reports."""
        if self.reported is not None:
            return self.reported.gateway_reference
        return None if self.claim is None else self.claim.reference


def key_in(text: object) -> str | None:
    """Return the key of an attempt that a text is, else None."""
    return text if isinstance(text, str) and KEY.fullmatch(text) else None


def payment_id_in(text: object) -> int | None:
    """Return the number of a payment that a text is, else None."""
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        return None
    return int(text) if int(text) <= INT64_MAX else None


def payment_reference(payment_id: int, key: str) -> str:
    """Return the reference under which the attempt with this key authorizes a payment: no two attempts share one."""
    further = ATTEMPT.fullmatch(key)
    number = 1 if further is None else int(further[1])
    return str(payment_id) if number == 1 else f"{payment_id}-{number}"


def payment_reference_in(text: object) -> tuple[int, int] | None:
    """Return the payment and the attempt that a reference names, else None."""
    found = REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) > INT64_MAX:
        return None
    return int(found[1]), int(found[2] or 1)
