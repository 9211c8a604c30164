"""Feature matrices, labels and class embeddings: checked, read, scaled and summarised."""
