"""Writes the public surface down, after a change that is meant."""

from pathlib import Path

from tests.surface.names import surface

if __name__ == "__main__":
    Path(__file__).with_name("surface.txt").write_text("\n".join(surface()) + "\n")
