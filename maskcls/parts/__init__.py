"""What the words of conf/<group>/ mean: one module for each group, of the same name."""
