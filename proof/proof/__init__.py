"""Proofs of the protocol: every interleaving of its decisions, and seeded schedules of the real handlers."""
