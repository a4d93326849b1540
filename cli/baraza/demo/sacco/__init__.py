"""The demo of a SACCO: a day of its members over mobile money with a provider that fails, then its dividends.

It must never judge its own run: the statement, the day's close and the audit do. Its members are synthetic.
"""
