"""The terminal: arguments read from it, text and progress written to it."""
