"""The demo of merchants' payments: purchases at both gateways' simulators, to the reconciled ledger.

It must never judge its own run: the audit, the ledger and the reconciliation do.
"""
