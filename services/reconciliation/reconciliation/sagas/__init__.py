"""The sagas that reconciliation serves: for each, its triggers and the events that it publishes. Pure."""
