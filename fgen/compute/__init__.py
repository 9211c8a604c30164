"""Devices, threads, precision, and matrix multiplication."""
