"""Chaos: a stack of its own under load, faults on a seeded schedule, and a verdict on every order and return.

``schedule`` chooses the faults, ``faults`` inject them into the ``target``, ``load`` submits the orders and ``returns``
requests their returns, ``engine`` runs all of it, ``waiting`` finds what is not settled yet, ``verdict`` judges, and
``session`` is all of it in order. It must never signal a process of another stack.
"""
