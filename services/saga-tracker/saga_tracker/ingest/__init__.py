"""Consumes every topic and records it: the Faust app, batches, deadlines, operators' acts.

It must never serve HTTP, and Faust must never hold state: offsets and sagas are in PostgreSQL.
"""
