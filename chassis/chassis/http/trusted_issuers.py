"""What an issuer of tokens is trusted with: how its claims are read, and which roles it may ever give.

A customers' issuer must never make staff, whatever its tokens claim. So the roles that it may give are a setting here,
and a claim can only choose among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chassis.http.auth import InvalidToken, Principal, checked_roles, checked_subject

NAME_LENGTH_MAX: Final = 256
OVERAGE: Final = ("_claim_names", "hasgroups")
"""Claims by which Entra ID says that the groups are not in the token, and where they are. They are never fetched."""


class TrustedIssuer(BaseModel):
    """One issuer whose tokens are accepted.

    ``roles`` maps values of the claim to our roles; without it the values are our roles. ``may_be`` are the roles that
    the issuer can ever give, ``always`` those that each of its tokens has. ``subject_alone``: logs name its subjects
    without the issuer. It is for the issuer that was the only one before, and for no other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=NAME_LENGTH_MAX)
    jwks_url: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    subject_claim: str = Field(default="sub", min_length=1)
    roles_claim: str = Field(default="roles", min_length=1)
    roles: Mapping[str, str] = Field(default_factory=dict)
    may_be: tuple[str, ...] = Field(min_length=1)
    always: tuple[str, ...] = ()
    subject_alone: bool = False

    @model_validator(mode="after")
    def _gives_what_it_may(self) -> TrustedIssuer:
        if beyond := sorted({*self.roles.values(), *self.always}.difference(self.may_be)):
            raise ValueError(
                f"The issuer {self.issuer} is set to give {', '.join(beyond)}, which may_be does not list. "
                f"Add it to may_be, or take it out of roles and always."
            )
        return self

    def read(self, claims: Mapping[str, Any]) -> Principal:
        """Return the caller that verified claims of this issuer name. Raises InvalidToken."""
        return Principal(
            subject=checked_subject(claims.get(self.subject_claim), self.subject_claim),
            roles=self._roles_of(claims),
            issuer=None if self.subject_alone else self.issuer,
        )

    def _roles_of(self, claims: Mapping[str, Any]) -> frozenset[str]:
        if any(claims.get(each) for each in OVERAGE):
            return frozenset()
        claimed = checked_roles(_found(claims, self.roles_claim))
        given = {self.roles[each] for each in claimed if each in self.roles} if self.roles else claimed
        return frozenset(given).intersection(self.may_be).union(self.always)


def check_together(trusted: Sequence[TrustedIssuer], *, reserved: str) -> None:
    """Raise ValueError where these issuers cannot be trusted beside one another."""
    names = [each.issuer for each in trusted]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ValueError(f"The issuer {twice[0]} is listed twice; list each once, with all that it may give.")
    if reserved in names:
        raise ValueError(f"{reserved} is the name of merchants' short tokens; no other issuer can have it.")
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
