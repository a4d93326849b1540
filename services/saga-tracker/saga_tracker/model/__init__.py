"""Decides what follows from the facts that are known of a saga.

It is pure: it must never do I/O or read a clock.
"""
