"""The rules for values that people type and read: text, identifiers, money, addresses, JSON.

It must never do I/O, and never know HTTP or a service.
"""
