"""One ticket at an ITSM for each alarm: opened, updated and resolved as Alertmanager reports it. Off unless configured.

An alarm is a group of Alertmanager's. It must never be dropped because the ITSM is away, and never open two tickets.
"""
