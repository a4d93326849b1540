"""The console's own tables, and every statement on them: saved views, and who revealed whom a saga is about.

A reveal is never changed and never deleted; a trigger refuses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    MetaData,
    Row,
    Table,
    Text,
    func,
    text,
)

NAME_LENGTH_MAX: Final = 60
QUERY_LENGTH_MAX: Final = 1_000
"""All filters of the list together; their values are ids, names and times."""
OWN_VIEWS_MAX: Final = 30
SHARED_VIEWS_MAX: Final = 60
"""More would be a list of its own at the head of each page."""
LOCK: Final = 0x636F6E73_00010000
"""Held while a view is saved, so that the limits hold for two people at once as well."""

metadata = MetaData()
views = Table(
    "views",
    metadata,
    Column("view_id", BigInteger, Identity(always=True), primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("person", Text, nullable=False, comment="the name that is shown"),
    Column("name", Text, CheckConstraint("length(name) BETWEEN 1 AND 60"), nullable=False),
    Column(
        "query",
        Text,
        CheckConstraint("length(query) BETWEEN 1 AND 1000"),
        nullable=False,
        comment="the list's filters, as in its address",
    ),
    Column("is_shared", Boolean, nullable=False),
    Column("saved_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("views_of_person", "issuer", "subject", "name", unique=True),
)
reveals = Table(
    "reveals",
    metadata,
    Column("reveal_id", BigInteger, Identity(always=True), primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("person", Text, nullable=False, comment="the name that is shown"),
    Column("saga_id", Text, nullable=False),
    Column("reason", Text, CheckConstraint("length(reason) BETWEEN 1 AND 500"), nullable=False),
    Column("revealed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("reveals_by_saga", "saga_id", "reveal_id"),
    Index("reveals_by_subject", "subject", "reveal_id"),
)

TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")

COUNTS = text("""
    SELECT count(*) FILTER (WHERE issuer = :issuer AND subject = :subject) AS own,
           count(*) FILTER (WHERE is_shared) AS shared,
           count(*) FILTER (WHERE issuer = :issuer AND subject = :subject AND name = :name) AS namesakes
    FROM views
""")

SAVE = text("""
    INSERT INTO views (issuer, subject, person, name, query, is_shared)
    VALUES (:issuer, :subject, :person, :name, :query, :is_shared)
""")

VISIBLE = text("""
    SELECT view_id, person, name, query, is_shared, issuer = :issuer AND subject = :subject AS is_own
    FROM views
    WHERE is_shared OR (issuer = :issuer AND subject = :subject)
    ORDER BY is_shared, lower(name), view_id
    LIMIT :limit
""")

DELETE = text("""
    DELETE FROM views
    WHERE view_id = :view_id
      AND ((issuer = :issuer AND subject = :subject) OR (is_shared AND CAST(:may_delete_shared AS boolean)))
    RETURNING name
""")

REVEAL = text("""
    INSERT INTO reveals (issuer, subject, person, saga_id, reason)
    VALUES (:issuer, :subject, :person, :saga_id, :reason)
""")

REVEALED = text("""
    SELECT reveal_id, issuer, subject, person, saga_id, reason, revealed_at
    FROM reveals
    WHERE reveal_id < :before
      AND (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
      AND (CAST(:subject AS text) IS NULL OR subject = :subject)
    ORDER BY reveal_id DESC
    LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who does something: the identity provider's own name of them, and the one that is shown."""

    issuer: str
    subject: str
    name: str


class ViewRefused(Exception):
    """A view is not saved; the message is for the person who wanted to save it."""


def visible_views(tx: Connection, person: Person) -> list[Row[tuple[object, ...]]]:
    """Return a person's own views, then those that others share, by their names."""
    values = {"issuer": person.issuer, "subject": person.subject, "limit": OWN_VIEWS_MAX + SHARED_VIEWS_MAX}
    return list(tx.execute(VISIBLE, values))


def save_view(tx: Connection, person: Person, *, name: str, query: str, is_shared: bool) -> None:
    """Save a view under a name. Raises ViewRefused at a limit, and where the person has a view of that name."""
    tx.execute(TAKE_LOCK, {"lock": LOCK})
    row = {"issuer": person.issuer, "subject": person.subject, "name": name}
    counts = tx.execute(COUNTS, row).one()
    if counts.namesakes:
        raise ViewRefused(f"You have a view {name!r} already; choose another name, or delete that one first.")
    if counts.own >= OWN_VIEWS_MAX:
        raise ViewRefused(f"You have {counts.own} views, which is the most; delete one first.")
    if is_shared and counts.shared >= SHARED_VIEWS_MAX:
        raise ViewRefused(f"{counts.shared} views are shared, which is the most; keep it for yourself.")
    tx.execute(SAVE, {**row, "person": person.name, "query": query, "is_shared": is_shared})


def delete_view(tx: Connection, person: Person, view_id: int, *, may_delete_shared: bool) -> str | None:
    """Delete a view, and return its name; None where there is none that this person may delete."""
    values = {
        "view_id": view_id, "issuer": person.issuer, "subject": person.subject, "may_delete_shared": may_delete_shared,
    }  # fmt: skip
    found: str | None = tx.execute(DELETE, values).scalar_one_or_none()
    return found


def store_reveal(tx: Connection, person: Person, *, saga_id: str, reason: str) -> None:
    """Store who reveals whom a saga is about, and why."""
    row = {"issuer": person.issuer, "subject": person.subject, "person": person.name}
    tx.execute(REVEAL, {**row, "saga_id": saga_id, "reason": reason})


def revealed(
    tx: Connection, *, before: int, saga_id: str | None, subject: str | None, limit: int
) -> list[Row[tuple[object, ...]]]:
    """Return the latest reveals whose number is below ``before``."""
    values = {"before": before, "saga_id": saga_id, "subject": subject, "limit": limit}
    return list(tx.execute(REVEALED, values))
