"""Numbers from labels and probabilities: no runs, no files, no torch."""
