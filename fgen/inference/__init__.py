"""What a trained model and its head predict, after training and from files."""
