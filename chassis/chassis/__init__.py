"""The microservice chassis: the only code that services share.

It must never import a service or know a saga by name.
"""
