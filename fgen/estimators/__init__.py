"""The doors for scikit-learn."""
