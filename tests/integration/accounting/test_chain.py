"""Whatever is changed, removed or inserted behind the ledger's back, verification names the first such row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import text

from baraza.audit import ledger_seals
from chassis.postgres.transient import utc_now
from ledger.model.chain import CHAINS
from ledger.store.seals import heads, seal_all
from ledger.store.verification import Verification, verify
from stack import Stack
from support.ledgers import LedgerUnderTest, hold, post, scratch_ledger, transfer

BATCHES = 3 * CHAINS
FREE = "SET LOCAL session_replication_role = replica"
"""Only a superuser can: it disables the triggers that refuse changes."""


@pytest.fixture(scope="module")
def module_ledger(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    with scratch_ledger(infrastructure) as ledger:
        for _ in range(BATCHES):
            held = hold("sacco:bank:KES", "sacco:working:600000:KES", 7)
            ledger.book(transfer("sacco:bank:KES", "sacco:working:600000:KES", 5), held, post(held))
        seal(ledger)
        yield ledger


def seal(ledger: LedgerUnderTest) -> int:
    with ledger.engine.begin() as tx:
        return seal_all(tx, now=utc_now())


def verified(ledger: LedgerUnderTest, *damage: str, published: Any = None, **parameters: Any) -> Verification:
    """Do the damage as the superuser, verify, and roll it back."""
    with ledger.engine.connect() as tx:
        for statement in (FREE, *damage):
            tx.execute(text(statement), parameters)
        found = verify(tx, published)
        tx.rollback()
    return found


def url_of(ledger: LedgerUnderTest) -> str:
    return ledger.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def middle(ledger: LedgerUnderTest) -> int:
    """Return the id of a transfer in the middle of all."""
    ids = [row.id for row in ledger.rows("SELECT id FROM transfers ORDER BY id")]
    return int(ids[len(ids) // 2])


def test_an_untouched_ledger_is_verified(module_ledger: LedgerUnderTest) -> None:
    found = verified(module_ledger)
    assert (found.damages, found.transfers, found.entries, found.unsealed_batches) == ([], 3 * BATCHES, 6 * BATCHES, 0)


def test_sealing_again_seals_nothing(module_ledger: LedgerUnderTest) -> None:
    assert seal(module_ledger) == 0


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "UPDATE transfer_entries SET amount_minor = amount_minor + 1 WHERE transfer_id = :id AND ordinal = 1",
            "entry {id}/1 was changed",
        ),
        (
            "UPDATE transfer_entries SET debits_after = debits_after + 1 WHERE transfer_id = :id AND ordinal = 0",
            "entry {id}/0 was changed",
        ),
        ("UPDATE transfers SET saga_id = 'another' WHERE id = :id", "transfer {id} was changed"),
        (
            "UPDATE transfers SET booked_at = booked_at - interval '1 microsecond' WHERE id = :id",
            "transfer {id} was changed",
        ),
        ("DELETE FROM transfer_entries WHERE transfer_id = :id AND ordinal = 1", "entry {id}/1 was removed"),
        ("DELETE FROM transfers WHERE id = :id", "transfer {id} was removed"),
        (
            "INSERT INTO transfer_entries SELECT transfer_id, 2, account_id, lane, amount_minor, is_hold, booked_at,"
            " effective_at, debits_after, credits_after FROM transfer_entries WHERE transfer_id = :id AND ordinal = 0",
            "entry {id}/2 was inserted",
        ),
    ],
)
def test_the_first_damaged_row_is_named(module_ledger: LedgerUnderTest, damage: str, named: str) -> None:
    id_ = middle(module_ledger)
    assert named.format(id=id_) in verified(module_ledger, damage, id=id_).damages[0]


COPIED = """
    INSERT INTO transfers (id, reference, kind, booked_at, effective_at, is_late, entry_count)
    SELECT {id}, 'planted', kind, booked_at, effective_at, is_late, entry_count FROM transfers WHERE id = :id
"""


def test_an_inserted_transfer_is_named(module_ledger: LedgerUnderTest) -> None:
    block = middle(module_ledger) >> 10
    found = verified(module_ledger, COPIED.format(id=":id + 900"), id=block << 10)
    assert found.damages == [f"transfer {(block << 10) + 900} was inserted"]


def test_a_transfer_that_is_inserted_in_no_batch_is_named(module_ledger: LedgerUnderTest) -> None:
    id_ = middle(module_ledger)
    found = verified(module_ledger, COPIED.format(id=":id + (1000000 << 10)"), id=id_)
    assert found.damages == [f"transfer {id_ + (1_000_000 << 10)} was inserted: it belongs to no batch"]


UNCHECKED = "DO $$ BEGIN ALTER TABLE batches DROP CONSTRAINT batches_id, DROP CONSTRAINT batches_place; END $$"
UNINDEXED = "DO $$ BEGIN DROP INDEX batches_chain; END $$"
"""In blocks: psycopg drops all prepared statements after a statement that begins with ALTER or DROP."""
PLACED = """
    INSERT INTO batches (id, transfer_count, booked_at, partition, position, sealed_at)
    VALUES ({id}, 1, now(), {partition}, {position}, now())
"""


@pytest.mark.parametrize(
    ("id_", "partition", "position"),
    [
        (1_000_000, "9", "1"),
        (1_000_000, "1", "1000"),
        (1_000_000, "0", "0"),
        (1_000_000, "0", "-7"),
        (1_000_000, "NULL", "1"),
        (1_000_000, "0", "NULL"),
        (-3, "NULL", "NULL"),
        (-4, "0", "1000"),
        (0, "NULL", "NULL"),
        (9_223_372_036_854_775_807, "3", "1000"),
        (9_007_199_254_740_992, "NULL", "NULL"),
    ],
)
def test_a_batch_that_no_chain_covers_is_refused_and_where_it_is_forced_named(
    module_ledger: LedgerUnderTest, id_: int, partition: str, position: str
) -> None:
    planted = PLACED.format(id=id_, partition=partition, position=position)
    with psycopg.connect(url_of(module_ledger)) as connection, pytest.raises(CheckViolation, match="batches_"):
        connection.execute(planted)
    damages = verified(module_ledger, UNCHECKED, planted).damages
    assert [each for each in damages if each.startswith(f"batch {id_} was inserted or moved")]


def test_a_second_batch_at_a_position_is_named(module_ledger: LedgerUnderTest) -> None:
    found = verified(module_ledger, UNINDEXED, PLACED.format(id=1_000_000, partition=0, position=2))
    (only,) = found.damages
    assert only == "batch 1000000 was inserted: chain 0 has another one at position 2"


NOT_SEALED = {"partition": "NULL", "position": "NULL"}
SEALED_AGO = "UPDATE batches SET sealed_at = now() - interval '{age}' WHERE position IS NOT NULL"


def test_a_batch_that_is_not_sealed_long_after_newer_ones_is_named(module_ledger: LedgerUnderTest) -> None:
    block = middle(module_ledger) >> 10
    newest = max(row.id for row in module_ledger.rows("SELECT id FROM batches") if row.id % CHAINS == block % CHAINS)
    left = ("UPDATE batches SET id = :newest + 4 WHERE id = :newest", PLACED.format(id=newest, **NOT_SEALED))
    lately, long_ago = (
        verified(module_ledger, *left, SEALED_AGO.format(age=age), newest=newest)
        for age in ("59 minutes", "61 minutes")
    )
    named = f"batch {newest} was inserted, or batch {newest + 4} of its chain was: only that one has been sealed"
    assert named not in lately.damages
    assert named in long_ago.damages


def test_of_several_damages_the_first_of_a_chain_is_named(module_ledger: LedgerUnderTest) -> None:
    (first, *_) = [row.id for row in module_ledger.rows("SELECT id FROM transfers ORDER BY id")]
    found = verified(module_ledger, "UPDATE transfers SET step = 'x'")
    assert f"transfer {first} was changed" in found.damages
    assert len(found.damages) == CHAINS


def test_a_batch_that_is_removed_with_all_its_rows_is_noticed(module_ledger: LedgerUnderTest) -> None:
    block = middle(module_ledger) >> 10
    damage = ("DELETE FROM batches WHERE id = :id", "DELETE FROM transfers WHERE id >> 10 = :id",
              "DELETE FROM transfer_entries WHERE transfer_id >> 10 = :id")  # fmt: skip
    (only,) = verified(module_ledger, *damage, id=block).damages
    assert only.endswith(f"of chain {block % CHAINS} was removed")


def test_a_seal_that_is_changed_with_its_rows_is_noticed(module_ledger: LedgerUnderTest) -> None:
    block = middle(module_ledger) >> 10
    found = verified(module_ledger, "UPDATE batches SET chain_hash = sha256(chain_hash) WHERE id = :id", id=block)
    assert found.damages == [f"the seal of batch {block} was changed"]


SEAL_CHANGED = "UPDATE batches SET {damage} WHERE id = :id"


@pytest.mark.parametrize(
    "damage",
    [
        "row_digests = NULL",
        "content_digest = NULL",
        "chain_hash = NULL",
        "transfer_count = -1",
        "row_digests = substr(row_digests, 1, 17), content_digest = sha256(content_digest)",
        "row_digests = NULL, content_digest = sha256(content_digest)",
        "content_digest = sha256(content_digest)",
    ],
)
def test_a_damaged_seal_is_named(module_ledger: LedgerUnderTest, damage: str) -> None:
    block = middle(module_ledger) >> 10
    found = verified(module_ledger, SEAL_CHANGED.format(damage=damage), id=block)
    assert found.damages == [f"the seal of batch {block} was changed"]


ORPHANED = """
    INSERT INTO transfer_entries
    SELECT :id, {ordinal}, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after
    FROM transfer_entries WHERE transfer_id = :of AND ordinal = 0
"""


def test_an_entry_without_a_transfer_in_a_sealed_batch_is_named(module_ledger: LedgerUnderTest) -> None:
    id_ = middle(module_ledger)
    orphan = (id_ >> 10 << 10) + 500
    found = verified(module_ledger, ORPHANED.format(ordinal=3), id=orphan, of=id_)
    assert found.damages == [
        f"entry {orphan}/3 was inserted",
        f"entry {orphan}/3 was inserted: it belongs to no transfer",
    ]


def test_a_ledger_that_is_sealed_anew_differs_from_what_was_published(module_ledger: LedgerUnderTest) -> None:
    """The superuser changes a row and computes every hash again; only what is kept elsewhere can show it."""
    with module_ledger.engine.connect() as tx:
        published = heads(tx)
        id_ = middle(module_ledger)
        for statement in (
            FREE,
            "UPDATE transfers SET step = 'x' WHERE id = :id",
            "UPDATE batches SET position = NULL, partition = NULL",
        ):
            tx.execute(text(statement), {"id": id_})
        seal_all(tx, now=utc_now())
        assert verify(tx).damages == []
        (only,) = verify(tx, published).damages
        tx.rollback()
    assert only.endswith("differs from what was published")


def test_what_was_published_and_is_missing_at_the_end_of_a_chain_is_noticed(module_ledger: LedgerUnderTest) -> None:
    with module_ledger.engine.connect() as tx:
        published = heads(tx)
    last = max(row.id for row in module_ledger.rows("SELECT id FROM batches"))
    damage = ("DELETE FROM batches WHERE id = :id", "DELETE FROM transfers WHERE id >> 10 = :id",
              "DELETE FROM transfer_entries WHERE transfer_id >> 10 = :id")  # fmt: skip
    (only,) = verified(module_ledger, *damage, published=published, id=last).damages
    assert "was removed, as what was published shows" in only


def test_the_command_line_verifies_from_outside_and_names_the_damage(module_ledger: LedgerUnderTest) -> None:
    url = url_of(module_ledger)
    with module_ledger.engine.connect() as tx:
        published = heads(tx)
    found = ledger_seals.verify_at(url, published)
    assert (found.to_json()["ledger"], found.transfers) == ("green", 3 * BATCHES)
    position, _ = published[0]
    found = ledger_seals.verify_at(url, {0: (position, bytes(32))})
    assert found.to_json()["ledger"] == "red"
    assert "differs from what was published" in found.damages[0]
