"""The running system as the command line reaches it: processes, HTTP APIs, topics, the outcomes of sagas.

It must never read a service's database, and it knows nothing of what the commands do with it.
"""
