"""The operations console: pages for support, operators and finance, and their sign-in.

It relays each person's own access token to the services' APIs, which alone decide what that person may do. It has no
database and no login to Kafka: what it shows, it has read for this request.
"""
