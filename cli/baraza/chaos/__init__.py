"""Chaos: a stack of its own under load, faults on a seeded schedule, a verdict on every order, return and payment.

``schedule`` chooses the faults, ``faults`` inject them into the ``target``, ``load`` submits the orders, ``returns``
requests their returns and ``payments`` what merchants do, ``engine`` runs all of it, ``waiting`` finds what is not
settled yet, ``verdict`` judges, and ``session`` is all of it in order. It must never signal a process of another stack.
"""
