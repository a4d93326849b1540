"""Merchants' payments: what is requested of gateways, what they prove, and what they report unasked."""
