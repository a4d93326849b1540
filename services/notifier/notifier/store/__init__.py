"""Notifier's statements outside of its step: endpoints, their deliveries, and what merchants read of both."""
