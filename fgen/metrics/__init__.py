"""Accuracies, their intervals, and the fidelity of generated features."""
