"""The proof of money and supply: seeds of bad days on real PostgreSQL and virtual time.

Everything that decides here is the product's own: line, drivers, orders, sender, resolver, ledger.
Only time, bytes and chance are simulated, and the simulated meters' own books are the judge. The
product never imports this package; `headend simulate` does.
"""
