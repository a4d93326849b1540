"""A simulated MTN MoMo."""
