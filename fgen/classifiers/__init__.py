"""Heads: classifiers that are trained on a bank, one file each."""
