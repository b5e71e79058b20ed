"""Terminal, files, processes and ranks."""
