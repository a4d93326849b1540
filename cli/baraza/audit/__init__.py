"""The audit: what must be true of every order, checked from outside over databases and providers' own records.

``sources`` reads, ``scratch`` puts what was read side by side in one SQLite file, ``invariants`` says what must be true
there, and ``report`` runs them. It must never write to what it reads, nor ask a service for its own opinion.
"""
