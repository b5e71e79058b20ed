"""Prediction: trained models, ensembles, submission files."""
