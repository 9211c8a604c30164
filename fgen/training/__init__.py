"""The training loop and what it works on: batches, draws, checkpoints. It knows no method."""
