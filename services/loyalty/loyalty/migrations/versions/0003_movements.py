"""Every change of points by hand is a row: by how much, why, and by whom.

A process of the release before changes granted without such a row, and does not raise the version. The trigger
records what it does, and what SQL by hand does, so that the sum of the movements is always granted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OPENING = """
    INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
    SELECT 'migration 0003', '', customer_id, 'OPENED', granted, 'The sum of what was entered before this release.'
    FROM accounts
"""

FUNCTION = """
    CREATE FUNCTION record_unattributed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
        VALUES (
            'database login ' || session_user, 'unattributed ' || gen_random_uuid(), NEW.customer_id,
            CASE TG_OP WHEN 'INSERT' THEN 'OPENED' ELSE 'CORRECTED' END,
            NEW.granted - coalesce(OLD.granted, 0),
            'Changed without a movement: by a process of an earlier release, or by SQL.'
        );
        RETURN NULL;
    END $$
"""

ON_INSERT = """
    CREATE TRIGGER unattributed_opening AFTER INSERT ON accounts FOR EACH ROW WHEN (NEW.version = 0)
    EXECUTE FUNCTION record_unattributed()
"""

ON_UPDATE = """
    CREATE TRIGGER unattributed_movement AFTER UPDATE OF granted ON accounts FOR EACH ROW
    WHEN (NEW.granted <> OLD.granted AND NEW.version = OLD.version)
    EXECUTE FUNCTION record_unattributed()
"""


def upgrade() -> None:
    """Create the table, one opening movement for each row, and the trigger."""
    op.add_column(
        "accounts",
        sa.Column(
            "version", sa.BigInteger, nullable=False, server_default="0", comment="how many movements it has had"
        ),
    )
    op.create_table(
        "account_movements",
        sa.Column("made_by", sa.Text, primary_key=True),
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False, comment="added to what was granted; negative: withdrawn"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index(
        "account_movements_opened",
        "account_movements",
        ["customer_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'OPENED'"),
    )
    # Until the commit no process of the release before can change a row between the two.
    op.execute("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE")
    for statement in (OPENING, FUNCTION, ON_INSERT, ON_UPDATE):
        op.execute(statement)
