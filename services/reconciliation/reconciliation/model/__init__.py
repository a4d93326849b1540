"""What reconciliation knows without a database: feeds, amounts, days, and what a line comes out as. Pure."""
