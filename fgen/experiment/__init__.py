"""An experiment: its settings, its protocol, and what it writes."""
