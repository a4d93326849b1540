"""Accounts, transfers and balances. The entries of earlier releases become transfers; they read and write a view."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TOTAL = sa.Numeric(38, 0)


def upgrade() -> None:
    """Create the tables, take over every entry, and replace the table of entries by a view that is written like it."""
    op.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
    op.rename_table("entries", "entries_0002")
    op.execute(sa.schema.CreateSequence(sa.Sequence("ledger_blocks")))
    _create_accounts()
    _create_transfers()
    _create_closing()
    for statement in (*TAKE_OVER, CHECK, VIEW, *WRITE_VIEW, *APPEND_ONLY):
        # A colon in SQL text would begin a parameter.
        op.execute(sa.text(statement.replace(":", "\\:")))


def _at(name: str, *, nullable: bool = False, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def _total(name: str, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, TOTAL, nullable=False, comment=comment)


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("path", sa.Text, nullable=False, comment="chart:code:owner:currency"),
        sa.Column("chart", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column(
            "lanes",
            sa.SmallInteger,
            sa.CheckConstraint("lanes > 0"),
            nullable=False,
            comment="its number of balance rows",
        ),
        _at("opened_at"),
        sa.UniqueConstraint("path", name="accounts_path"),
    )
    op.create_index("accounts_owner", "accounts", ["owner", "id"], postgresql_where=sa.text("owner IS NOT NULL"))
    op.create_table(
        "balances",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("floor_minor", sa.BigInteger, comment="the least that may be available; null is no limit"),
        sa.Column("ceiling_minor", sa.BigInteger, comment="the most that it may hold; null is no limit"),
        sa.Column("is_closed", sa.Boolean, nullable=False, server_default="false"),
        *(
            sa.Column(name, TOTAL, nullable=False, server_default="0")
            for name in ("debits", "credits", "held_debits", "held_credits")
        ),
        _at("booked_at", comment="its latest booking"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "payments",
        sa.Column("payment_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, comment="counts the changes"),
        sa.Column("status", sa.Text, nullable=False),
        _at("updated_at"),
        sa.PrimaryKeyConstraint("payment_id", name="payments_once"),
    )


def _create_transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False, comment="the block's number and 10 bits"),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("of_id", sa.BigInteger, comment="the hold that it resolves, or the transfer that it corrects"),
        _at("booked_at"),
        _at("effective_at", comment="the business's value date"),
        _at("expires_at", nullable=True),
        sa.Column("exchange_rate", sa.Numeric, comment="minor units bought for one sold"),
        sa.Column("is_late", sa.Boolean, nullable=False, comment="its effective day was closed when it was booked"),
        sa.Column("entry_count", sa.SmallInteger, nullable=False),
        sa.Column("saga_id", sa.Text),
        sa.Column("step", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("payment_id", sa.Text, comment="the payment that it moved"),
        sa.Column("payment_version", sa.Integer, comment="the payment's version after it"),
        sa.Column("payment_status", sa.Text),
        sa.UniqueConstraint("reference", name="transfers_reference"),
    )
    for name, column, where, unique in (
        ("transfers_saga", "saga_id", "saga_id IS NOT NULL", False),
        ("transfers_resolved", "of_id", "kind IN ('POST', 'VOID')", True),
        ("transfers_late", "effective_at", "is_late", False),
        ("transfers_expiring", "expires_at", "expires_at IS NOT NULL", False),
    ):
        op.create_index(name, "transfers", [column], unique=unique, postgresql_where=sa.text(where))
    op.create_table(
        "transfer_entries",
        sa.Column("transfer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ordinal", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False, comment="a debit is positive, a credit negative"),
        sa.Column("is_hold", sa.Boolean, nullable=False),
        _at("booked_at"),
        _at("effective_at"),
        _total("debits_after", "the posted debits of its balance row, after it"),
        _total("credits_after"),
    )
    order = ["account_id", "lane", "booked_at", "transfer_id", "ordinal"]
    op.create_index("entries_by_account", "transfer_entries", order)
    for name, column, where in (
        ("entries_near", "booked_at", "effective_at <> booked_at AND NOT is_hold"),
        ("entries_late", "booked_at", "booked_at - effective_at > interval '5 seconds'"),
        ("entries_ahead", "effective_at", "effective_at - booked_at > interval '5 seconds'"),
    ):
        # A colon would begin a parameter.
        op.create_index(name, "transfer_entries", ["account_id", column], postgresql_where=sa.text(where))


def _create_closing() -> None:
    op.create_table(
        "batches",
        sa.Column(
            "id", sa.BigInteger, primary_key=True, autoincrement=False, comment="the block of its transfers' ids"
        ),
        sa.Column("transfer_count", sa.SmallInteger, nullable=False),
        _at("booked_at"),
        sa.Column("partition", sa.SmallInteger, comment="its chain; null until it is sealed"),
        sa.Column("position", sa.BigInteger),
        sa.Column("content_digest", sa.LargeBinary),
        sa.Column("row_digests", sa.LargeBinary, comment="16 bytes a row: each transfer, then its entries"),
        sa.Column("chain_hash", sa.LargeBinary, comment="over the hash before it, its own number, count and digests"),
        _at("sealed_at", nullable=True),
        sa.CheckConstraint("id >= 1 AND id < CAST(1 AS bigint) << 53", name="batches_id"),
        sa.CheckConstraint(
            "(position IS NULL) = (partition IS NULL) AND position >= 1 AND partition = mod(id, 4)",
            name="batches_place",
        ),
    )
    sealed, unsealed = sa.text("position IS NOT NULL"), sa.text("position IS NULL")
    op.create_index("batches_chain", "batches", ["partition", "position"], unique=True, postgresql_where=sealed)
    op.create_index("batches_unsealed", "batches", ["id"], postgresql_where=unsealed)
    op.create_table(
        "day_closes",
        sa.Column("chart", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        _at("closed_until", comment="the day's end in the chart's zone"),
        _at("closed_at"),
        sa.Column("root", sa.LargeBinary, nullable=False, comment="over all else in the row, and the day's totals"),
        sa.Column("heads", sa.Text, nullable=False, comment="partition:position:hash of every chain, in order"),
        sa.Column(
            "first_open_id", sa.BigInteger, nullable=False, comment="transfers before it are in the totals, or ahead"
        ),
        sa.Column("next_id", sa.BigInteger, nullable=False, comment="of what is booked after the close"),
        sa.Column("last_account_id", sa.BigInteger, nullable=False, comment="of the chart's accounts"),
        sa.Column(
            "accounts_digest",
            sa.LargeBinary,
            nullable=False,
            comment="over the digest of the day before and the accounts opened since",
        ),
    )
    op.create_table(
        "day_totals",
        sa.Column("chart", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("currency", sa.Text, primary_key=True),
        _total("debits", "of all entries effective up to the day's end, when it was closed"),
        _total("credits"),
    )


TAKE_OVER = (
    """
    INSERT INTO accounts (path, chart, code, kind, currency, lanes, opened_at)
    SELECT 'shop:' || account || ':' || currency, 'shop', account,
           CASE account WHEN 'sales' THEN 'INCOME' ELSE 'ASSET' END, currency, 8, now()
    FROM entries_0002 GROUP BY account, currency ORDER BY currency, account
    """,
    """
    INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, is_late, entry_count, saga_id, step)
    WITH found AS (
        SELECT saga_id, kind, max(posted_at) AS posted_at, count(*) AS entry_count
        FROM entries_0002 GROUP BY saga_id, kind
    ), numbered AS (
        SELECT *, row_number() OVER (ORDER BY posted_at, saga_id, kind) - 1 AS number FROM found
    ), identified AS (
        SELECT *, ((1 + number / 1024) << 10) | (number % 1024) AS id FROM numbered
    )
    SELECT id, saga_id || CASE kind WHEN 'POST' THEN ':post_ledger' ELSE ':post_ledger:undo' END,
           CASE kind WHEN 'POST' THEN 'TRANSFER' ELSE 'CORRECTION' END,
           CASE kind WHEN 'POST' THEN NULL
                     ELSE (SELECT posted.id FROM identified AS posted
                           WHERE posted.saga_id = identified.saga_id AND posted.kind = 'POST')
           END,
           posted_at, posted_at, false, entry_count, saga_id, 'post_ledger'
    FROM identified
    """,
    """
    INSERT INTO transfer_entries (transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at,
                                  effective_at, debits_after, credits_after)
    SELECT transfers.id,
           row_number() OVER (PARTITION BY transfers.id ORDER BY account) - 1,
           accounts.id, 0, debit_minor - credit_minor, false, booked_at, effective_at,
           sum(debit_minor) OVER (PARTITION BY accounts.id ORDER BY transfers.id),
           sum(credit_minor) OVER (PARTITION BY accounts.id ORDER BY transfers.id)
    FROM entries_0002
    JOIN transfers ON reference = entries_0002.saga_id
                                  || CASE entries_0002.kind WHEN 'POST' THEN ':post_ledger' ELSE ':post_ledger:undo' END
    JOIN accounts ON path = 'shop:' || account || ':' || entries_0002.currency
    """,
    """
    INSERT INTO balances (account_id, lane, debits, credits, booked_at)
    SELECT accounts.id, lane, coalesce(sums.debits, 0), coalesce(sums.credits, 0), coalesce(sums.booked_at, opened_at)
    FROM accounts
    CROSS JOIN LATERAL generate_series(0, lanes - 1) AS lane
    LEFT JOIN (
        SELECT account_id, max(debits_after) AS debits, max(credits_after) AS credits, max(booked_at) AS booked_at
        FROM transfer_entries GROUP BY account_id
    ) AS sums ON sums.account_id = accounts.id AND lane = 0
    """,
    """
    INSERT INTO batches (id, transfer_count, booked_at)
    SELECT id >> 10, count(*), max(booked_at) FROM transfers GROUP BY id >> 10
    """,
    "SELECT setval('ledger_blocks', max(id)) FROM batches HAVING count(*) > 0",
)

CHECK = """
    DO $$
    DECLARE
        before record;
        after record;
    BEGIN
        SELECT count(*) AS entries, coalesce(sum(debit_minor), 0) AS debits, coalesce(sum(credit_minor), 0) AS credits
        INTO before FROM entries_0002;
        SELECT count(*) AS entries, coalesce(sum(greatest(amount_minor, 0)), 0) AS debits,
               coalesce(sum(greatest(-amount_minor, 0)), 0) AS credits
        INTO after FROM transfer_entries;
        IF before IS DISTINCT FROM after THEN
            RAISE EXCEPTION 'Of the entries % only % were taken over; nothing has been changed.', before, after;
        END IF;
        DROP TABLE entries_0002;
    END $$
"""

VIEW = """
    CREATE VIEW entries AS
    SELECT transfers.saga_id,
           CASE transfers.kind WHEN 'CORRECTION' THEN 'REVERSE' ELSE 'POST' END AS kind,
           accounts.code AS account,
           greatest(transfer_entries.amount_minor, 0) AS debit_minor,
           greatest(-transfer_entries.amount_minor, 0) AS credit_minor,
           accounts.currency, transfers.booked_at AS posted_at
    FROM transfers
    JOIN transfer_entries ON transfer_id = transfers.id
    JOIN accounts ON accounts.id = account_id
    WHERE transfers.saga_id IS NOT NULL AND NOT is_hold
"""

WRITE_VIEW = (
    """
    CREATE FUNCTION add_entry() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        name text := NEW.saga_id || CASE NEW.kind WHEN 'POST' THEN ':post_ledger' ELSE ':post_ledger:undo' END;
        account_path text := 'shop:' || NEW.account || ':' || NEW.currency;
        amount bigint := NEW.debit_minor - NEW.credit_minor;
        transfer transfers%ROWTYPE;
        balance balances%ROWTYPE;
        block bigint;
        found_id bigint;
        booked timestamptz;
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7810759522288402433);  -- as booking does: CLOSING_LOCK
        WITH opened AS (
            INSERT INTO accounts (path, chart, code, kind, currency, lanes, opened_at)
            VALUES (account_path, 'shop', NEW.account, CASE NEW.account WHEN 'sales' THEN 'INCOME' ELSE 'ASSET' END,
                    NEW.currency, 8, NEW.posted_at)
            ON CONFLICT (path) DO NOTHING RETURNING id, lanes
        )
        INSERT INTO balances (account_id, lane, booked_at)
        SELECT id, lane, NEW.posted_at FROM opened CROSS JOIN LATERAL generate_series(0, lanes - 1) AS lane;
        SELECT id INTO STRICT found_id FROM accounts WHERE path = account_path;
        PERFORM FROM accounts JOIN balances ON account_id = accounts.id AND lane = 0
        WHERE chart = 'shop' AND currency = NEW.currency ORDER BY account_id FOR NO KEY UPDATE OF balances;
        SELECT greatest(NEW.posted_at, max(booked_at)) INTO booked
        FROM accounts JOIN balances ON account_id = accounts.id AND lane = 0
        WHERE chart = 'shop' AND currency = NEW.currency;
        UPDATE balances SET debits = debits + NEW.debit_minor, credits = credits + NEW.credit_minor,
                            booked_at = booked
        WHERE account_id = found_id AND lane = 0 RETURNING * INTO STRICT balance;
        SELECT * INTO transfer FROM transfers WHERE reference = name;
        IF EXISTS (SELECT FROM transfer_entries WHERE transfer_id = transfer.id AND account_id = found_id) THEN
            RAISE unique_violation USING MESSAGE = format('%s has an entry on %s.', name, account_path);
        END IF;
        IF transfer.id IS NULL THEN
            block := nextval('ledger_blocks');
            INSERT INTO batches (id, transfer_count, booked_at) VALUES (block, 1, booked);
            INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, is_late, entry_count, saga_id,
                                   step)
            VALUES (block << 10, name, CASE NEW.kind WHEN 'POST' THEN 'TRANSFER' ELSE 'CORRECTION' END,
                    CASE NEW.kind WHEN 'POST' THEN NULL
                                  ELSE (SELECT id FROM transfers WHERE reference = NEW.saga_id || ':post_ledger') END,
                    booked, NEW.posted_at,
                    EXISTS (SELECT FROM day_closes WHERE chart = 'shop' AND closed_until > NEW.posted_at),
                    CASE NEW.kind WHEN 'POST' THEN 2
                                  ELSE (SELECT entry_count FROM transfers
                                        WHERE reference = NEW.saga_id || ':post_ledger') END,
                    NEW.saga_id, 'post_ledger')
            RETURNING * INTO transfer;
        END IF;
        INSERT INTO transfer_entries (transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at,
                                      effective_at, debits_after, credits_after)
        VALUES (transfer.id, (SELECT count(*) FROM transfer_entries WHERE transfer_id = transfer.id), found_id, 0,
                amount, false, transfer.booked_at, transfer.effective_at, balance.debits, balance.credits);
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER add_entry INSTEAD OF INSERT ON entries FOR EACH ROW EXECUTE FUNCTION add_entry()",
)
"""What a process of the release before writes during a rolling upgrade."""

APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% of % is refused: the ledger is corrected by new transfers.', TG_OP, TG_TABLE_NAME;
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON day_closes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON day_totals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)
