"""Handles a batch of messages in one transaction: effects, outbox, retries, dead letters.

It must never start a thread or call Kafka or a provider.
"""
