"""What is published about chains is read strictly, and no seal is too damaged to be judged."""

from __future__ import annotations

import pytest

from baraza.commands.ledger import heads_of
from baraza.terminal import UsageRefusal
from ledger.model.chain import BatchRows, Damage, Seal, first_damage, parsed_heads, sealed

HASH = "0f" * 32
ROWS = BatchRows(transfers={3072: "one", 3073: "two"}, entries={3072: {0: "a", 1: "b"}, 3073: {0: "c", 1: "d"}})
SEAL = sealed(3, 3, 1, ROWS, bytes(32))


def test_heads_are_read_by_chain() -> None:
    assert heads_of(f"0:1:{HASH} 3:12:{HASH}") == {0: (1, bytes.fromhex(HASH)), 3: (12, bytes.fromhex(HASH))}
    assert heads_of(None) is None
    assert parsed_heads("") == {}


@pytest.mark.parametrize(
    "heads",
    [
        "",
        "  ",
        "9:1:00 0:0:ff",
        f"4:1:{HASH}",
        f"-1:1:{HASH}",
        f"0:0:{HASH}",
        f"0:-3:{HASH}",
        f"0:1:{HASH[:-2]}",
        f"0:1:{HASH}00",
        f"0:1:{HASH} 0:2:{HASH}",
        f"0:1:{HASH} 1:2",
        f"0:1:{HASH},1:2:{HASH}",
        f"\N{ARABIC-INDIC DIGIT ONE}:1:{HASH}",
        "$HEADS",
    ],
)
def test_heads_with_which_something_would_not_be_compared_are_refused(heads: str) -> None:
    with pytest.raises(UsageRefusal, match="--heads"):
        heads_of(heads)


def damaged(row_digests: bytes) -> Seal:
    return Seal(
        batch_id=3,
        partition=3,
        position=1,
        transfer_count=2,
        content_digest=SEAL.content_digest,
        row_digests=row_digests,
        chain_hash=SEAL.chain_hash,
    )


def test_row_digests_that_end_anywhere_name_a_row_or_none() -> None:
    assert first_damage(SEAL, ROWS) is None
    for length in range(len(SEAL.row_digests)):
        found = first_damage(damaged(SEAL.row_digests[:length]), ROWS)
        assert found is None or found.transfer_id in ROWS.transfers


def test_the_first_row_that_no_digest_covers_is_named() -> None:
    rows = BatchRows(transfers={**ROWS.transfers, 3080: "x"}, entries={**ROWS.entries, 3079: {4: "y"}, 3080: {0: "z"}})
    assert first_damage(SEAL, rows) == Damage(what="inserted", transfer_id=3079, ordinal=4)
