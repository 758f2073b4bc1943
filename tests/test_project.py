"""The project itself: pinned versions, floors that know only the floors below, a light import, small files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "neuralmechanics"
# Bottom to top, as the design lays them out; a module may import from its own floor and from those before it.
FLOORS = (
    "files", "configuration", "progress", "optimizers", "slices", "functional", "symmetry", "laws", "flows",
    "diagnostics", "monitor", "experiments", "report", "cli",
)  # fmt: skip
# Imports inside a function are exempt: `run.report(path)` is how a lower floor offers a convenience of a higher one.
LONGEST_FILE = 400


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def _requirements() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert installed is not None
    yield from map(Requirement, project["dependencies"])
    for extra in (*installed.group(1).split(","), "docs"):
        yield from map(Requirement, project["optional-dependencies"][extra])


def _sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def _floor(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "neuralmechanics" else None


def _top_level_imports(path: Path) -> Iterator[str]:
    """Modules that importing the file imports: not those inside functions or under TYPE_CHECKING."""
    package = ("neuralmechanics", *path.relative_to(SOURCE).parent.parts)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_requirement_is_pinned_inside_its_bounds() -> None:
    pins = _pins()
    for requirement in _requirements():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"


def test_torch_is_pinned_without_a_local_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", _pins()["torch"])


def test_never_torchvision() -> None:
    assert "torchvision" not in _pins()
    for path in _sources():
        assert not any(module.split(".")[0] == "torchvision" for module in _top_level_imports(path)), path


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_floors_know_only_the_floors_below(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    own = relative.parts[0].removesuffix(".py")
    if own not in FLOORS:
        pytest.skip("the package's own lazy exports")
    for module in _top_level_imports(path):
        other = _floor(module)
        if other in FLOORS:
            assert FLOORS.index(other) <= FLOORS.index(own), f"{relative} imports {module} from a floor above"


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_FILE, f"{len(lines)} lines: split it by subject"
    assert lines[0].startswith(('"""', 'r"""')), "the first line says what the file is about"
    assert "TODO" not in path.read_text()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "xarray", "matplotlib", "plotly", "sklearn", "transformers", "ray")
    code = f"import sys, neuralmechanics; print([name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    for target in ("demo", "test", "test-all", "docs"):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
