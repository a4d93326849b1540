"""Persons who decide: the subject of a caller's token, where it can be taken for no other person's."""

from __future__ import annotations

from chassis.http.auth import Principal
from chassis.http.problem import Problem
from chassis.values.people import is_normal


def person(caller: Principal) -> str:
    """Return a person who decides, as it is stored. Raises Problem (403) where it proves none."""
    if caller.break_glass is not None:
        raise Problem(
            status=403,
            title="A token of break-glass proves no person",
            detail="Who decides here is a person, and a token of break-glass has the name that was typed; decide it "
            "when the identity provider answers again.",
            type="urn:baraza:problem:break-glass-proves-no-person",
        )
    if is_normal(caller.subject):
        return caller.actor
    raise Problem(
        status=403,
        title="The token's subject looks like another one",
        detail="The token's subject has blanks around it, has invisible characters or is not Unicode NFC, so it looks "
        "like another person's; use a token whose subject is in that form.",
        type="urn:baraza:problem:subject-not-normal",
    )
