"""Chaos: a stack of its own under load, faults on a seeded schedule, and a verdict on every order.

``schedule`` chooses the faults, ``faults`` inject them into the ``target``, ``load`` submits the orders, ``engine``
runs both, ``verdict`` judges, and ``session`` is all of it in order. It must never signal a process of another stack.
"""
