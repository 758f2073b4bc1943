"""One training: its course, its loop, what it writes, and how it goes on after an interruption."""
