"""The saga-tracker: watches every event, keeps each saga's state and timeline, and issues compensations."""
