"""A payment's status in the ledger: each one is set by something, so that none is promised that never comes."""

from __future__ import annotations

import re
from pathlib import Path

import ledger
from ledger.model.payments import NEXT, PaymentStatus

SET = re.compile(r"(?<!is )(?<!is not )PaymentStatus\.([A-Z_]+)")
ALIASES = re.compile(r"^[A-Z_, ]+ = PaymentStatus\.", re.MULTILINE)


def test_every_status_of_a_payment_is_set_by_something() -> None:
    sources = [file.read_text() for file in Path(ledger.__file__ or "").parent.rglob("*.py")]
    lines = [line for source in sources for line in source.splitlines() if not ALIASES.match(line)]
    found = {name for line in lines for name in SET.findall(line)}
    assert found == {each.name for each in PaymentStatus}
    assert NEXT.keys() == {None, *PaymentStatus}
