"""Networks that the engine does not pass yet, each with what is missing; entries leave as they pass (strict)."""

from __future__ import annotations

SOUNDNESS: dict[str, str] = {}  # must stay empty: a false symmetry is never tolerated
DIMENSIONS: dict[str, str] = {}  # translations and diagonal symmetries of the zoo
FIBRE: dict[str, str] = {}  # completeness at a point: linear and affine families
ARCHITECTURES: dict[str, str] = {}  # finite transformations of whole architectures
TRAPPED: dict[str, str] = {}  # false claims that are known; must end empty
