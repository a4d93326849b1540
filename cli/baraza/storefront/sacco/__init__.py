"""A SACCO as it is used: its members at their phones, its tellers and treasury. The demo and chaos share it."""
