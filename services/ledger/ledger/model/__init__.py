"""What the ledger decides, in pure code: accounts, transfers of two phases, limits, exchange, payments' status."""
