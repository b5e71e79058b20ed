"""Drawn people: who they are, how their faces, hair and clothes look, and the camera that takes them."""
