"""Holds every statement on the tracker's tables.

It must never decide about a saga.
"""
