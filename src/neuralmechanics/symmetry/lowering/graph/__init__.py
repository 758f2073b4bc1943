"""What is read off a captured graph before it is lowered."""
