"""Payment gateways inside of payment's process.

The records of the one for orders commit with the effects that they belong to. Those for merchants' payments are called
as the adapters are, through the same port and by the same awaited steps; only the network is missing.
"""
