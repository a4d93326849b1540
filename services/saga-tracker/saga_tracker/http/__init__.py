"""Serves support, operators and analytics over HTTP, from the database.

It must never change a saga: acts are plans and commands that the worker applies.
"""
