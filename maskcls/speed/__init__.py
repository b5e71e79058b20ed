"""The bench: contenders in a race, the anatomy of a step, and how costs grow with the set."""
