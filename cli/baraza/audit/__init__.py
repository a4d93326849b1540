"""The audit: what must be true of every order, checked from outside over databases and providers' own records.

``sources`` reads, ``scratch`` puts all of it into one SQLite file, ``invariants`` are the rules as queries on it,
``report`` runs them, and ``console`` shows the verdict. It must never write to a source, nor query a service.
"""
