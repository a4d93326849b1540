"""A posting by hand, on the command line: one person proposes it, another approves it, and a saga posts it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

from support.shop import Shop
from support.waiting import until

DEBIT, CREDIT = "sacco:bank:KES", "sacco:fees:KES"
AMOUNT = 2**53 + 1
REASON = "The bank's fee of November."


def ledger(shop: Shop, *arguments: str, is_json: bool = True) -> tuple[int, Any]:
    """Run ``baraza ledger``; return its status, and what it printed."""
    command = (sys.executable, "-m", "baraza.main", "ledger", *arguments, "--home", str(shop.stack.home))
    done = subprocess.run(
        (*command, *(["--json"] if is_json else [])), capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        return done.returncode, done.stderr
    return 0, json.loads(done.stdout) if is_json else done.stdout


def propose(shop: Shop, amount: int) -> dict[str, Any]:
    entries = (f"{DEBIT}={amount}", f"{CREDIT}=-{amount}")
    status, posting = ledger(shop, "propose", *entries, "--reason", REASON, "--by", "fin-1")
    assert status == 0, posting
    assert isinstance(posting, dict)
    return posting


def test_a_posting_by_hand_needs_two_people_and_is_on_the_timeline(shop: Shop) -> None:
    posting = propose(shop, AMOUNT)
    posting_id = posting["posting_id"]
    status, refusal = ledger(shop, "approve", posting_id, "--reason", "Seen.", "--by", "fin-1")
    assert (status, "another person" in refusal) == (1, True), refusal
    status, approved = ledger(shop, "approve", posting_id, "--reason", "Seen.", "--by", "fin-2")
    assert (status, approved["state"]) == (0, "APPROVED"), approved
    status, printed = ledger(shop, "postings", "--csv", is_json=False)
    assert status == 0, printed
    assert posting_id in [line["posting_id"] for line in csv.DictReader(io.StringIO(printed))]

    ended = until(
        lambda: shop.call("ledger", "GET", f"/v1/manual-postings/{posting_id}"),
        "its saga ends",
        holds=lambda found: found["state"] not in ("PROPOSED", "APPROVED"),
    )
    assert ended["state"] == "POSTED"
    types = [each["type"] for each in shop.timeline(posting_id)]
    assert types[:3] == ["ManualPostingApproved", "ManualPostingHeld", "ManualPostingPosted"]
    _, printed = ledger(shop, "entries", CREDIT, "--csv", is_json=False)
    lines = [line for line in csv.DictReader(io.StringIO(printed)) if line["saga_id"] == posting_id]
    assert [(line["kind"], line["amount"]) for line in lines] == [("HOLD", str(-AMOUNT)), ("POST", str(-AMOUNT))]


def test_a_posting_that_the_ledger_rejects_ends_with_its_reason(shop: Shop) -> None:
    """No member's account of that number was ever opened."""
    entries = ("sacco:fosa:no-such-member:KES=5", f"{CREDIT}=-5")
    _, posting = ledger(shop, "propose", *entries, "--reason", REASON, "--by", "fin-1")
    ledger(shop, "approve", posting["posting_id"], "--reason", "Seen.", "--by", "fin-2")
    ended = until(
        lambda: shop.call("ledger", "GET", f"/v1/manual-postings/{posting['posting_id']}"),
        "its saga ends",
        holds=lambda found: found["state"] not in ("PROPOSED", "APPROVED"),
    )
    assert (ended["state"], ended["outcome"]) == ("FAILED", "account_unknown")


def test_a_proposal_that_is_refused_starts_no_saga(shop: Shop) -> None:
    posting = propose(shop, 7)
    status, refused = ledger(shop, "refuse", posting["posting_id"], "--reason", "No.", "--by", "fin-2")
    assert (status, refused["state"]) == (0, "REFUSED"), refused
    status, _ = ledger(shop, "approve", posting["posting_id"], "--reason", "Yes.", "--by", "fin-3")
    assert status == 1


def test_the_books_are_sound_and_untouched(shop: Shop) -> None:
    propose(shop, 9)
    status, verified = ledger(shop, "verify")
    assert (status, verified["ledger"]) == (0, "green"), verified
