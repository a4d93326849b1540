"""The sagas that mobile-money serves: for each, its triggers and the events that it publishes. Pure."""
