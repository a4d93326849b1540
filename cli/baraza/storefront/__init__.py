"""What a shop brings: catalogue, customers and orders, from files or the dataset, and their way into the services.

It calls the services' public APIs and must never write into a database or a topic.
"""
