"""Configurations: frozen values read from TOML, every key known, former spellings accepted with a warning."""
