"""Run pages, figures, terminal summaries and comparisons of runs."""
