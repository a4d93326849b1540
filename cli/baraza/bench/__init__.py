"""Measures how fast the whole stack is, on a stack of its own, so that anyone can repeat a figure.

It must never change what it measures: load goes in where customers send it, and ends are read where anyone may read.
"""
