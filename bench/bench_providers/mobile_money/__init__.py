"""A provider of mobile money inside of mobile-money's process.

It is called as the adapters are, through the same port, the same limiter and the same awaited steps; only the network
is missing. Callbacks enter by mobile-money's own door: the benchmark sends them.
"""
