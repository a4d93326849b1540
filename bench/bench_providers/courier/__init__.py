"""A courier inside of shipping's process: its records commit with the effects that they belong to."""
