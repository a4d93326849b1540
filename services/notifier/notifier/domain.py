"""What notifier decides. Pure."""
