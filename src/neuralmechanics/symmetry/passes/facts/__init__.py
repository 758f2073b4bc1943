"""Facts about a program: which values are equal, known, zero, read once, and what may be said of them."""
