"""Classifier heads, one module per kind of age: as a class, as years."""
