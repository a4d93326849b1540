"""A payment gateway inside of payment's process: its records commit with the effects that they belong to."""
