"""What mobile-money decides. Pure."""
