"""The sagas that notifier serves: for each, its triggers and the events that it publishes. Pure."""
