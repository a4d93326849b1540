"""``baraza saga new``: writes the skeleton of a saga into this checkout, from which its writer goes on.

1. ``names`` checks the name, and derives from it every other one.
2. ``schemas`` and ``modules`` have the texts of the new files, ``edits`` changes those that there are.
3. ``writing`` writes all of them and runs the generators.
"""
