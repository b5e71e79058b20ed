"""Layouts of data sources, one module per layout."""
