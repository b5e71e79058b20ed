"""What each conf group builds: conf/<group>/<option>.yaml ↔ components/<group>.py."""
