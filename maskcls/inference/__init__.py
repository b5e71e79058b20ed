"""Trained models → probabilities → prediction files."""
