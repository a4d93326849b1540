"""The sagas that merchant serves: for each, its triggers and the events that it publishes. Pure."""
