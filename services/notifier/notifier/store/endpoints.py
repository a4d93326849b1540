"""Endpoints and their secrets: what merchants and staff change. Every statement names the merchant and the mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from chassis.http.webhook_signing import OVERLAP, SECRETS_MAX
from notifier.domain import Owner

ENDPOINTS_MAX: Final = 20
"""Of one merchant in one mode: an event is one row for each of them."""
COLUMNS: Final = """endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at,
           failing_since, slow_until, created_at, updated_at"""
OWN: Final = "merchant_id = :merchant_id AND is_live = :is_live AND state <> 'DELETED'"

LOCK_OWNER = text("""
    SELECT pg_advisory_xact_lock(
        hashtextextended('endpoints ' || CAST(:merchant_id AS text) || ' ' || CAST(:is_live AS text), 0))
""")
COUNT = text(f"SELECT count(*) FROM endpoints WHERE {OWN}")
FIND_URL = text(f"SELECT endpoint_id FROM endpoints WHERE {OWN} AND url = :url AND endpoint_id <> :endpoint_id")
INSERT = text(f"""
    INSERT INTO endpoints (endpoint_id, merchant_id, is_live, url, description, types, state, created_at, updated_at)
    VALUES (:endpoint_id, :merchant_id, :is_live, :url, :description, :types, 'ENABLED', :now, :now)
    RETURNING {COLUMNS}
""")
FIND = text(f"SELECT {COLUMNS} FROM endpoints WHERE {OWN} AND endpoint_id = :endpoint_id")
LOCK = text(f"SELECT {COLUMNS} FROM endpoints WHERE {OWN} AND endpoint_id = :endpoint_id FOR UPDATE")
LIST = text(f"""
    SELECT {COLUMNS} FROM endpoints WHERE {OWN} AND endpoint_id > :after ORDER BY endpoint_id LIMIT :count
""")
CHANGE = text(f"""
    UPDATE endpoints
    SET url = coalesce(:url, url), description = coalesce(:description, description),
        types = coalesce(CAST(:types AS text[]), types), updated_at = :now
    WHERE {OWN} AND endpoint_id = :endpoint_id
    RETURNING {COLUMNS}
""")
ENABLE = text(f"""
    UPDATE endpoints
    SET state = 'ENABLED', disabled_because = NULL, disabled_at = NULL, failing_since = NULL, slow_until = NULL,
        updated_at = :now
    WHERE {OWN} AND endpoint_id = :endpoint_id
    RETURNING {COLUMNS}
""")
DISABLE = text(f"""
    UPDATE endpoints
    SET state = 'DISABLED', disabled_because = coalesce(disabled_because, CAST(:because AS text)),
        disabled_at = coalesce(disabled_at, :now), updated_at = :now
    WHERE {OWN} AND endpoint_id = :endpoint_id
    RETURNING {COLUMNS}
""")
DELETE = text(f"UPDATE endpoints SET state = 'DELETED', updated_at = :now WHERE {OWN} AND endpoint_id = :endpoint_id")
DELETE_SECRETS = text("DELETE FROM endpoint_secrets WHERE endpoint_id = :endpoint_id")
EXPIRE_SECRETS = text("""
    UPDATE endpoint_secrets SET expires_at = least(coalesce(expires_at, :expires_at), :expires_at)
    WHERE endpoint_id = :endpoint_id
""")
ADD_SECRET = text("""
    INSERT INTO endpoint_secrets (endpoint_id, sealed, created_at) VALUES (:endpoint_id, :sealed, :now)
""")
KEEP_NEWEST = text("""
    DELETE FROM endpoint_secrets
    WHERE endpoint_id = :endpoint_id
      AND (expires_at <= :now OR number NOT IN (
          SELECT number FROM endpoint_secrets WHERE endpoint_id = :endpoint_id ORDER BY number DESC LIMIT :kept))
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What a merchant wants to be called at. No ``types``: all of them."""

    endpoint_id: str
    url: str
    description: str
    types: Sequence[str]


class TooManyEndpoints(Exception):
    """A merchant has as many endpoints in one mode as it may have."""


class UrlTaken(Exception):
    """Another endpoint of the merchant has the address already."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"Endpoint {endpoint_id} has this address already.")
        self.endpoint_id = endpoint_id


def create(new: NewEndpoint, sealed: bytes, owner: Owner, tx: Connection, *, now: datetime) -> Any:
    """Store an endpoint with its first secret, and return its row. Raises UrlTaken or TooManyEndpoints."""
    tx.execute(LOCK_OWNER, _of(owner))
    _check_url(new.url, new.endpoint_id, owner, tx)
    if tx.execute(COUNT, _of(owner)).scalar_one() >= ENDPOINTS_MAX:
        raise TooManyEndpoints(f"There are {ENDPOINTS_MAX} endpoints in this mode; delete one first.")
    values = {
        "endpoint_id": new.endpoint_id,
        "url": new.url,
        "description": new.description,
        "types": list(new.types),
        "now": now,
    }
    row = tx.execute(INSERT, _of(owner) | values).one()
    tx.execute(ADD_SECRET, {"endpoint_id": new.endpoint_id, "sealed": sealed, "now": now})
    return row


def find(endpoint_id: str, owner: Owner, tx: Connection) -> Any:
    """Return an endpoint of this merchant, or None."""
    return tx.execute(FIND, _of(owner) | {"endpoint_id": endpoint_id}).one_or_none()


def list_endpoints(owner: Owner, tx: Connection, *, after: str, count: int) -> list[Any]:
    """Return endpoints of this merchant in the order in which they were created."""
    return list(tx.execute(LIST, _of(owner) | {"after": after, "count": count}).all())


def change(
    endpoint_id: str,
    owner: Owner,
    tx: Connection,
    *,
    url: str | None,
    description: str | None,
    types: Sequence[str] | None,
    now: datetime,
) -> Any:
    """Change what is not None, and return the row; None without one. Raises UrlTaken."""
    if url is not None:
        tx.execute(LOCK_OWNER, _of(owner))
        _check_url(url, endpoint_id, owner, tx)
    values = {
        "endpoint_id": endpoint_id,
        "url": url,
        "description": description,
        "types": None if types is None else list(types),
        "now": now,
    }
    return tx.execute(CHANGE, _of(owner) | values).one_or_none()


def enable(endpoint_id: str, owner: Owner, tx: Connection, *, now: datetime) -> Any:
    """Enable an endpoint as if it had never failed, and return its row; None without one."""
    return tx.execute(ENABLE, _of(owner) | {"endpoint_id": endpoint_id, "now": now}).one_or_none()


def disable(endpoint_id: str, owner: Owner, tx: Connection, *, because: str, now: datetime) -> Any:
    """Disable an endpoint, and return its row; None without one. One that is disabled keeps its reason."""
    values = {"endpoint_id": endpoint_id, "because": because, "now": now}
    return tx.execute(DISABLE, _of(owner) | values).one_or_none()


def delete(endpoint_id: str, owner: Owner, tx: Connection, *, now: datetime) -> bool:
    """Delete an endpoint with its secrets, and return whether there was one. What was sent to it stays readable."""
    deleted = tx.execute(DELETE, _of(owner) | {"endpoint_id": endpoint_id, "now": now}).rowcount > 0
    if deleted:
        tx.execute(DELETE_SECRETS, {"endpoint_id": endpoint_id})
    return deleted


def rotate(endpoint_id: str, sealed: bytes, owner: Owner, tx: Connection, *, now: datetime) -> Any:
    """Add a secret, let those before it end, and return the endpoint's row; None without one."""
    row = tx.execute(LOCK, _of(owner) | {"endpoint_id": endpoint_id}).one_or_none()
    if row is None:
        return None
    tx.execute(EXPIRE_SECRETS, {"endpoint_id": endpoint_id, "expires_at": now + OVERLAP})
    tx.execute(ADD_SECRET, {"endpoint_id": endpoint_id, "sealed": sealed, "now": now})
    tx.execute(KEEP_NEWEST, {"endpoint_id": endpoint_id, "now": now, "kept": SECRETS_MAX})
    return row


def _check_url(url: str, endpoint_id: str, owner: Owner, tx: Connection) -> None:
    other = tx.execute(FIND_URL, _of(owner) | {"url": url, "endpoint_id": endpoint_id}).scalar_one_or_none()
    if other is not None:
        raise UrlTaken(other)


def _of(owner: Owner) -> dict[str, Any]:
    merchant_id, is_live = owner
    return {"merchant_id": merchant_id, "is_live": is_live}
