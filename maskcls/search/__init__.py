"""Searches for the best settings: trials that are runs, shared by any number of processes."""
