"""Serves HTTP and calls providers over it: tokens, problems, health, timeouts, circuit breaker.

It must never read or write a table.
"""
