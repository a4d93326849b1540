"""The sagas that loyalty serves: for each, what triggers its steps there, and the events that it publishes. Pure."""
