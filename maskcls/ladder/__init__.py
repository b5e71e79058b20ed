"""The published ladders: their rungs, their scales, the climb, what it came to, and where it stands."""
