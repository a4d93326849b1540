"""Saved views of the list of sagas, and who revealed whom a saga is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% of % is refused: who revealed what stays as it was stored.', TG_OP, TG_TABLE_NAME;
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reveals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "views",
        sa.Column("view_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("person", sa.Text, nullable=False, comment="the name that is shown"),
        sa.Column("name", sa.Text, sa.CheckConstraint("length(name) BETWEEN 1 AND 60"), nullable=False),
        sa.Column(
            "query",
            sa.Text,
            sa.CheckConstraint("length(query) BETWEEN 1 AND 1000"),
            nullable=False,
            comment="the list's filters, as in its address",
        ),
        sa.Column("is_shared", sa.Boolean, nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("views_of_person", "views", ["issuer", "subject", "name"], unique=True)
    op.create_table(
        "reveals",
        sa.Column("reveal_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("person", sa.Text, nullable=False, comment="the name that is shown"),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, sa.CheckConstraint("length(reason) BETWEEN 1 AND 500"), nullable=False),
        sa.Column("revealed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("reveals_by_saga", "reveals", ["saga_id", "reveal_id"])
    op.create_index("reveals_by_subject", "reveals", ["subject", "reveal_id"])
    for statement in APPEND_ONLY:
        op.execute(statement)
