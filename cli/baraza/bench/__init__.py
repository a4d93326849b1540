"""Measures the throughput and latency of the whole stack, on a stack of its own, so that anyone can repeat a figure.

It must never change what it measures: load enters through the customers' API, and outcomes are read from public topics.
"""
