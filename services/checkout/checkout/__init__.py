"""Checkout takes orders in: it validates the cart, stores the order as PENDING and publishes OrderSubmitted."""
