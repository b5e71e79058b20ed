"""Files of runs: run directory, checkpoints, predictions, pretrained weights."""
