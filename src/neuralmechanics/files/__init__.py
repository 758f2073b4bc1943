"""Files: reading what others wrote, and writing so that a file is whole or absent."""

from neuralmechanics.files.reading import inside, open_regular, parse_json, read_regular

__all__ = ["inside", "open_regular", "parse_json", "read_regular"]
