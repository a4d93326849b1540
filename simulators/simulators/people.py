"""The people of the development issuers, and what these remember of their sign-ins. Nothing outlives the process.

Anyone may sign in as any of them with a click: for development only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

Value = TypeVar("Value")

CODE_S = 60
"""A code is exchanged at once; RFC 6749 allows ten minutes at most."""
HELD_MAX = 5_000
"""Codes, sign-ins and refresh tokens that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    """A person who can sign in. ``sub`` is what the APIs get to know."""

    sub: str
    name: str
    roles: tuple[str, ...]
    enabled: bool = True


STAFF = (
    Someone(sub="sue.support", name="Sue Sanga", roles=("support",)),
    Someone(sub="opal.okafor", name="Opal Okafor", roles=("operator", "support")),
    Someone(sub="fatma.finance", name="Fatma Farah", roles=("finance",)),
    Someone(sub="ade.approver", name="Ade Amadi", roles=("approver", "operator")),
    Someone(sub="tessa.teller", name="Tessa Toure", roles=("teller",)),
    Someone(sub="tom.treasury", name="Tom Tembo", roles=("treasury",)),
    Someone(sub="noor.new", name="Noor Nabil (no role yet)", roles=()),
)
"""Whom the staff's issuer knows."""
CUSTOMERS = (
    Someone(sub="c-48211", name="Carla Chege (a customer)", roles=("customer",)),
    Someone(sub="M-2071", name="Musa Mutua (a member)", roles=("member",)),
    Someone(sub="c-66613", name="Mallory Moss (a customer whose token claims to be an operator's)",
            roles=("operator", "support", "finance")),
)  # fmt: skip
"""Whom the customers' issuer knows. What the last one claims must count for nothing anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client has requested at the authorization endpoint."""

    client_id: str
    redirect_uri: str
    scope: str
    state: str
    nonce: str
    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A person's sign-in for a client: ``sid`` names it in tokens and in a logout."""

    sid: str
    sub: str
    request: Request


@dataclass(frozen=True, slots=True)
class _Kept:
    sign_in: SignIn
    until_s: float


@dataclass(slots=True)
class Memory:
    """The people, the open codes and the refresh tokens of one issuer. The event loop's thread uses it."""

    people: dict[str, Someone]
    clock: Callable[[], float] = time.monotonic
    _codes: dict[str, _Kept] = field(default_factory=dict)
    _refresh: dict[str, SignIn] = field(default_factory=dict)

    def person(self, sub: str) -> Someone | None:
        """Return a person who may sign in; None for an unknown or a disabled one."""
        found = self.people.get(sub)
        return found if found is not None and found.enabled else None

    def change(self, sub: str, *, roles: tuple[str, ...] | None, enabled: bool | None) -> Someone:
        """Change a person's roles, or whether they may sign in. Raises KeyError for an unknown one."""
        before = self.people[sub]
        changed = replace(
            before,
            roles=before.roles if roles is None else roles,
            enabled=before.enabled if enabled is None else enabled,
        )
        self.people[sub] = changed
        return changed

    def code_for(self, person: Someone, request: Request) -> str:
        """Begin a sign-in and return its code, which is good once and for a minute."""
        code = secrets.token_urlsafe(32)
        sign_in = SignIn(sid=secrets.token_urlsafe(16), sub=person.sub, request=request)
        _bound(self._codes)[code] = _Kept(sign_in, self.clock() + CODE_S)
        return code

    def redeem(self, code: str) -> SignIn | None:
        """Return the sign-in of a code, once."""
        kept = self._codes.pop(code, None)
        return None if kept is None or self.clock() > kept.until_s else kept.sign_in

    def refresh_token_for(self, sign_in: SignIn) -> str:
        """Return a new refresh token."""
        token = secrets.token_urlsafe(32)
        _bound(self._refresh)[token] = sign_in
        return token

    def refresh(self, token: str) -> SignIn | None:
        """Return the sign-in of a refresh token, which is good once."""
        return self._refresh.pop(token, None)

    def end(self, *, sub: str, sid: str | None = None) -> list[SignIn]:
        """End a person's sign-ins, or one of them, and return each once."""
        gone = {token: each for token, each in self._refresh.items() if each.sub == sub and sid in (None, each.sid)}
        for token in gone:
            del self._refresh[token]
        return list({each.sid: each for each in gone.values()}.values())


def _bound(kept: dict[str, Value]) -> dict[str, Value]:
    """Drop the oldest entry of a full table, and return the table."""
    if len(kept) >= HELD_MAX:
        del kept[next(iter(kept))]
    return kept
