"""A run on disk: directory, checkpoints, prediction files, pretrained weights."""
