"""A simulated Daraja."""
