"""What an id in an address may look like. What is none is not looked for."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException

from console.access import Visit

ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def id_of(visit: Visit, name: str = "saga_id") -> str:
    """Return the id in a request's path, or answer 404."""
    found = str(visit.request.path_params[name])
    if ID.fullmatch(found) is None:
        raise HTTPException(404, "This is no id: it has letters, digits, - and _, 64 at most.")
    return found


def reason_of(visit: Visit) -> str:
    """Return the reason in a form, or answer 422; the ticket stands before it."""
    reason, ticket = visit.form.get("reason", "").strip(), visit.form.get("ticket", "").strip()
    if not reason:
        raise HTTPException(422, "Write a reason: it is stored, and the readers of the log need it.")
    return f"{ticket}: {reason}" if ticket else reason
