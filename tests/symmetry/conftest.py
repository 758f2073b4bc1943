"""The modules that need the engine wait for it."""

import importlib.util

from neuralmechanics import symmetry

collect_ignore_glob: list[str] = []
if not hasattr(symmetry, "find_symmetries"):
    collect_ignore_glob += [
        f"test_{name}.py" for name in ("architectures", "classical", "forms", "modern", "traps", "unsound", "zoo")
    ]
if importlib.util.find_spec("transformers") is None:
    collect_ignore_glob += ["test_architectures.py"]
