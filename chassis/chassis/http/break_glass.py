"""Tokens of break-glass: who has the sealed key acts for some minutes while the identity provider is away.

Such a token proves that someone opened the key, and nothing else: its subject is what that person typed. So its
issuer gives few roles, each use is logged and raises an alert, and no decision that takes two persons counts it as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from chassis.http.auth import BreakGlass, InvalidToken, Principal
from chassis.settings import BREAK_GLASS_ISSUER
from chassis.telemetry import metrics
from chassis.values.remark import remark

LIFESPAN_MAX_S: Final = 1_800
"""Half an hour: long enough to end an incident's harm, and short enough that a token which leaks is soon worthless."""
TOKEN_ID_LENGTH_MAX: Final = 64

log = structlog.get_logger(__name__)


def read(caller: Principal, claims: Mapping[str, Any]) -> Principal:
    """Return the caller of a verified token of break-glass, whose use is logged. Raises InvalidToken."""
    issued_at, expires_at, token_id = int(claims["iat"]), int(claims["exp"]), claims.get("jti")
    if expires_at - issued_at > LIFESPAN_MAX_S:
        raise InvalidToken(f"A token of break-glass is good for {LIFESPAN_MAX_S} s at most; this one is for longer.")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= TOKEN_ID_LENGTH_MAX:
        raise InvalidToken(f"A token of break-glass has an id (jti) of 1 to {TOKEN_ID_LENGTH_MAX} characters.")
    try:
        reason = remark(str(claims.get("reason") or ""))
    except ValueError as error:
        raise InvalidToken(
            f"A token of break-glass has the claim reason, and this one is not acceptable: {error}."
        ) from error
    opened = BreakGlass(token_id=token_id, reason=reason, until=datetime.fromtimestamp(expires_at, UTC))
    metrics.BREAK_GLASS_UNTIL.set(expires_at)
    log.warning("A token of break-glass is used.", actor=caller.actor, roles=sorted(caller.roles), token_id=token_id,
                until=opened.until.isoformat())  # fmt: skip
    return Principal(subject=caller.subject, roles=caller.roles, issuer=BREAK_GLASS_ISSUER, break_glass=opened)
