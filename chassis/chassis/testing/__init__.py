"""For those who test a service's handlers without Kafka: a service on a real database, its clock, and its provider."""
