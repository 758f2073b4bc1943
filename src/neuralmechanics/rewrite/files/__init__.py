"""Checkpoints on disk, rewritten one tensor at a time."""
