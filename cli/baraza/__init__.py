"""The command line: ``main`` wires the commands, ``commands`` parses and reports, the rooms below do the work.

``bench``, ``chaos`` and ``demo`` run on a stack; ``audit`` checks it from outside; ``storefront`` brings catalogue,
customers and orders; ``system`` reaches the running processes. None of them imports a command.
"""
