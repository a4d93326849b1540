"""The ledger's tables, and every statement on them. Transfers and entries are only ever added."""
