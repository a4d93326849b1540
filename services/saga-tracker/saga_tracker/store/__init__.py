"""Holds every statement on the tracker's tables.

It must never decide what becomes of a saga.
"""
