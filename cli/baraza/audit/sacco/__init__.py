"""What must be true of a SACCO's money: by the ledger, mobile-money and members, statements and providers' own books.

A statement's row that is LISTED has a reason and keeps no invariant red; what is MATCHED must be what our books have.
"""

from __future__ import annotations

from typing import Final

from baraza.audit.sacco.books import BOOK_INVARIANTS
from baraza.audit.sacco.payouts import PAYOUT_INVARIANTS
from baraza.audit.sacco.receipts import RECEIPT_INVARIANTS

SACCO_INVARIANTS: Final = (*RECEIPT_INVARIANTS, *PAYOUT_INVARIANTS, *BOOK_INVARIANTS)
