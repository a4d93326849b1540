"""Records metrics, logs and traces.

It must never change what is recorded, or fail the work that it observes.
"""
