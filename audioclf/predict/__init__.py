"""From a checkpoint to use: predictions and embeddings of any audio, and a model for other programs."""
