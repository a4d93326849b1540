"""Opens databases and sends statements: engines, pipelining, arrays, migrations, transient retry.

It must never know a table of a service.
"""
