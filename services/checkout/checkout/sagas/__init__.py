"""The sagas that checkout starts: for each, what triggers its steps there, and the events that it publishes. Pure."""
