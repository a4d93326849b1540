"""What risk decides. Pure."""
