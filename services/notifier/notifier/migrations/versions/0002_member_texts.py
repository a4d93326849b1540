"""Members' contacts, and the texts that they are sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "member_contacts",
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("phone", sa.Text, comment="12 digits; null: the registration has not arrived yet"),
        sa.Column("language", sa.Text, comment="en or sw"),
        sa.Column("registered_at", TIME),
    )
    op.create_table(
        "waiting_texts",
        sa.Column("text_id", sa.Text, primary_key=True),
        sa.Column("language", sa.Text, primary_key=True),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        comment="texts to members whose registration has not arrived yet, each in every language",
    )
    op.create_index("waiting_texts_of_member", "waiting_texts", ["member_id"])
    op.create_table(
        "texts",
        sa.Column("text_id", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="DUE", comment="DUE, SENT or GIVEN_UP"),
        sa.Column("attempt_count", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("due_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("lease", sa.Text, comment="the process's, while an attempt is under way; it ends at due_at"),
        sa.Column("last_error", sa.Text),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
    )
    op.create_index("texts_due", "texts", ["due_at"], postgresql_where=sa.text("state = 'DUE'"))
    op.create_index("texts_of_member", "texts", ["member_id", "position"])
    op.create_index("texts_by_position", "texts", ["position"])
    op.create_index("texts_by_age", "texts", ["created_at"])
