"""Program to program: the same function, written so that its symmetries can be read off."""
