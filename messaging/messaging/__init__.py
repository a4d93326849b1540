"""The kit: what every service shares, and the only shared code. It knows no service and no saga by name."""
