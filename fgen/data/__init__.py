"""Data sets and feature banks: what is read, checked and written."""
