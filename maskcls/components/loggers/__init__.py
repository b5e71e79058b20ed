"""Experiment loggers, one module per service."""
