"""The sagas that risk serves: for each, its triggers and the events that it publishes. Pure."""
