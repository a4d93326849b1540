"""What reconciliation stores, and every statement on it; each takes a whole feed, run or batch."""
