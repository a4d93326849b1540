"""Chaos: a stack of its own under load, faults on a seeded schedule, and a verdict on what became of every order.

``schedule`` says which fault comes when, ``faults`` bring them about on the ``field``, ``load`` submits the orders, and
``verdict`` says whether anything was lost. It must never end a process that is not of its own stack.
"""
