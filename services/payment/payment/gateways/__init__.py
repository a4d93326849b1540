"""The gateways that take merchants' payments: one port, an adapter for each, and the accounts at them."""
