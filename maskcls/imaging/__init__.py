"""Pixels in, pixels out: reading, resizing, face detection, drawn masks."""
