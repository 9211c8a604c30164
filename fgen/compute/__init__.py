"""Devices, threads, precision, and products of matrices."""
