"""What members decides. Pure."""
