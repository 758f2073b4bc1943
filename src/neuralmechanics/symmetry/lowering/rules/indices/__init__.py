"""Rules of operations that pick entries by indices, or put entries into places."""
