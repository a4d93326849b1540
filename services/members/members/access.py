"""Who calls members: a member with a token of its own, whose subject is its number, or staff by role.

A member must never see what belongs to another one: to it that does not exist.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends

from chassis.http.auth import Principal
from chassis.http.people import person
from chassis.http.problem import Problem
from chassis.http.rate_limits import admitted
from chassis.values.people import is_one_person

MEMBER: Final = "member"
STAFF: Final = frozenset({"teller", "treasury", "finance", "approver", "support", "operator"})
"""Roles that read everything."""


def is_member(caller: Principal) -> bool:
    """Return whether the caller is a member and no staff."""
    return MEMBER in caller.roles and caller.roles.isdisjoint(STAFF)


def may_see(caller: Principal, member_id: str | None) -> bool:
    """Return whether the caller may know of what belongs to this member."""
    return not is_member(caller) or caller.subject == member_id


def check_own(caller: Principal, member_id: str) -> None:
    """Raise Problem (404) where a member requests something for another one."""
    if not may_see(caller, member_id):
        raise no_member(member_id)


def no_member(member_id: str) -> Problem:
    """Return the problem of a member whom the caller does not know."""
    return Problem(status=404, detail=f"There is no member {member_id} of yours; check the number.")


def check_second(first: str | None, caller: Principal) -> str:
    """Return the subject of the person who approves. Raises Problem (403) where it is the one who proposed."""
    second = person(caller)
    if first is not None and is_one_person(first, second):
        raise Problem(
            status=403,
            title="Another person has to approve it",
            detail=f"{first} proposed it; another person looks at it and approves it.",
            type="urn:baraza:problem:second-person",
        )
    return second


def decided(what: str, state: str) -> Problem:
    """Return the problem of what is decided already."""
    return Problem(
        status=409,
        title="It is decided",
        detail=f"The {what} is {state}, so nothing can be decided about it any more; read it.",
        type="urn:baraza:problem:already-decided",
    )


Reader = Annotated[Principal, Depends(admitted(MEMBER, *sorted(STAFF)))]
Requester = Annotated[Principal, Depends(admitted(MEMBER, "teller"))]
StaffMember = Annotated[Principal, Depends(admitted(*sorted(STAFF)))]
Teller = Annotated[Principal, Depends(admitted("teller"))]
Finance = Annotated[Principal, Depends(admitted("finance"))]
Approver = Annotated[Principal, Depends(admitted("approver"))]
Decider = Annotated[Principal, Depends(admitted("teller", "finance", "approver"))]
Operator = Annotated[Principal, Depends(admitted("operator", "finance"))]
