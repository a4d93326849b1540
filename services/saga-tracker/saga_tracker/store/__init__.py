"""Holds the tracker's tables and the statements on them, and the cache of what a process has stored.

It must never decide what happens to a saga.
"""
