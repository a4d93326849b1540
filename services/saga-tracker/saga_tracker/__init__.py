"""The saga-tracker: consumes every event, keeps each saga's state and timeline, and sends the compensations."""
