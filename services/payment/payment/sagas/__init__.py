"""The sagas that payment serves: for each, what triggers its steps there, and the events that it publishes. Pure."""
