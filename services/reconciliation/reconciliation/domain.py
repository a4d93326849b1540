"""What reconciliation decides. Pure."""
