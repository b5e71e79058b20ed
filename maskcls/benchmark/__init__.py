"""Speed of the training loop against plain loops."""
