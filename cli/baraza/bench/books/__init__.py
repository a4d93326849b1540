"""The benchmark of the ledger: its batch path and its reads, with hand-written SQL as the peer."""
