"""Base classes of all methods."""
