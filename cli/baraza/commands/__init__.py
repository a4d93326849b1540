"""The commands, a module for each noun: each parses its options, calls a library room, and reports the result.

They must hold no logic that a room could need: no room imports a command.
"""
