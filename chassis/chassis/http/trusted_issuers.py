"""Reads the claims of an issuer's tokens by what it is trusted with (``settings.TrustedIssuer``).

A customers' issuer must never make staff, whatever its tokens claim: a claim can only choose among the roles that the
setting lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chassis.http import break_glass
from chassis.http.auth import InvalidToken, Principal, checked_roles, checked_subject, keys_of
from chassis.settings import BREAK_GLASS_ISSUER, TrustedIssuer

OVERAGE: Final = ("_claim_names", "hasgroups")
"""Claims by which Entra ID says that the groups are not in the token, and where they are. They are never fetched."""


def read(trusted: TrustedIssuer, claims: Mapping[str, Any]) -> Principal:
    """Return the caller that verified claims of an issuer name. Raises InvalidToken."""
    caller = Principal(
        subject=checked_subject(claims.get(trusted.subject_claim), trusted.subject_claim),
        roles=_roles_of(trusted, claims),
        issuer=None if trusted.subject_alone else trusted.issuer,
    )
    return break_glass.read(caller, claims) if trusted.issuer == BREAK_GLASS_ISSUER else caller


def _roles_of(trusted: TrustedIssuer, claims: Mapping[str, Any]) -> frozenset[str]:
    if any(claims.get(each) for each in OVERAGE):
        return frozenset()
    claimed = checked_roles(_found(claims, trusted.roles_claim))
    given = {trusted.roles[each] for each in claimed if each in trusted.roles} if trusted.roles else claimed
    return frozenset(given).intersection(trusted.may_be).union(trusted.always)


def check_together(trusted: Sequence[TrustedIssuer], *, reserved: str) -> None:
    """Raise ValueError where these issuers cannot be trusted beside one another."""
    names = [each.issuer for each in trusted]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ValueError(f"The issuer {twice[0]} is listed twice; list each once, with all that it may give.")
    if reserved in names:
        raise ValueError(f"{reserved} is the name of merchants' short tokens; no other issuer can have it.")
    for each in trusted:
        if each.jwks is not None and not keys_of(each.jwks):
            raise ValueError(f"jwks of the issuer {each.issuer} has no key of ours: ES256 or RS256, with a kid.")
    if sum(each.subject_alone for each in trusted) > 1:
        raise ValueError("subject_alone is set for more than one issuer; logs could not tell their people apart.")


def _found(claims: Mapping[str, Any], name: str) -> object:
    """Return the claim of this name, or the one that the parts of the name lead to; an empty list without one."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return []
        found = found[part]
    return found


def named_issuer(claims: Mapping[str, Any]) -> str:
    """Return the issuer that claims name; nothing of them is verified here. Raises InvalidToken."""
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise InvalidToken("The token names no issuer (iss).")
    return issuer
