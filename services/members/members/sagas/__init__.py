"""The sagas that members serves: for each, its triggers and the events that it publishes. Pure."""
