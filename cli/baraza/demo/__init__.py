"""The demo: a retailer's baskets through the whole stack, some of them failing by design, each followed to its end.

It must never judge its own run: the audit does.
"""
