"""What merchant decides. Pure."""
