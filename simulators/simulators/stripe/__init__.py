"""A simulated Stripe."""
