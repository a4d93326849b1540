"""Consumes every topic and records it: the Faust app, recorder, deadlines, operators' acts.

It must never serve HTTP, and Faust must never hold state.
"""
