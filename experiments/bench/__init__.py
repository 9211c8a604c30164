"""How fast fgen is, beside clean textbook code and the machine's own limits: ``make bench``.

Beside another checkout of fgen: :mod:`experiments.bench.checkouts`.
"""
