"""Losses with kinks as smooth pieces: choices that are held, and the instants at which they switch."""
