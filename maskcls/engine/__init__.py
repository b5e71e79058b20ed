"""One run: folds, training loop, out-of-fold predictions, closing metrics."""
