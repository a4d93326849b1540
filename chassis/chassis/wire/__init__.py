"""Encodes, decodes and addresses messages: Avro, envelope, schema registry, logins to Kafka and Redis.

It must never decide what a message leads to.
"""
