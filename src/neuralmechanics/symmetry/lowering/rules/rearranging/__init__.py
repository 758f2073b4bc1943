"""Rules of operations that move entries and change none."""
