"""Vocabulary of the package: task, table, config, registry, errors. Imports no other folder."""
