"""Runs a service as a process: the consume loop, calls to providers, group membership, start and stop.

It must never decide about an effect.
"""
