"""Experiments that classify photos of people by mask, gender and age."""

__version__ = "0.1.0"
