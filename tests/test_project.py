"""The project itself: pinned versions, floors and folders that know only those below, a light import, small files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "neuralmechanics"
# Bottom to top, as the design lays them out; a module may import from its own floor and from those before it.
FLOORS = (
    "citations", "files", "configuration", "progress", "optimizers", "slices", "functional", "symmetry", "laws",
    "flows", "diagnostics", "rewrite", "monitor", "experiments", "report", "cli",
)  # fmt: skip
# Imports inside a function are exempt: `run.report(path)` is how a lower floor offers a convenience of a higher one.
# The folders of a floor, in the same sense; what a floor has beside its folders may stand anywhere among them.
INSIDE = {
    "symmetry": ("algebra", "families", "program", "lowering", "domains", "passes", "finding"),
    "flows": ("equation", "curvature", "models", "edge", "switching", "integration", "comparison"),
    "rewrite": ("plan", "actions", "comparing", "maps", "files"),
    "monitor": ("store", "processes", "following", "reading", "explaining", "trackers", "trainers"),
    "experiments": ("config", "seeds", "losses", "data", "models", "measuring", "targets", "training", "sweep"),
    "report": ("palette", "source", "scores", "tables", "figures", "page", "paper", "theory"),
}
# Floors whose tests lie in folders of the same names.
MIRRORED = ("diagnostics", "experiments", "flows", "functional", "monitor", "report", "symmetry")
LONGEST_FILE = 300
FULLEST_FOLDER = 13
# Floors that are being rebuilt may have longer files until they are.
LONGEST_OF_FLOOR = {"symmetry": 400, "monitor": 400}


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


def _module_of(path: Path) -> str:
    parts = ("neuralmechanics", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _graph() -> dict[str, set[str]]:
    """The modules of the package that each of them imports; a name imported from a module is that module's."""
    paths = {_module_of(path): path for path in _sources()}
    graph = {}
    for module, path in paths.items():
        named = set(_top_level_imports(path)) & set(paths)
        # `from a.b import c` names a.b and, where c is a module, a.b.c: then c alone is meant.
        meant = {one for one in named if not any(other.startswith(f"{one}.") for other in named)}
        graph[module] = meant - {module}
    return graph


def _children(package: str, graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which children of a package, modules or folders, import from which others."""
    above = package.count(".") + 1

    def child(module: str) -> str | None:
        return module.split(".")[above] if module.startswith(f"{package}.") else None

    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        own = child(module)
        if own is not None:
            found.setdefault(own, set()).update(filter(None, map(child, imported)))
            found[own].discard(own)
    return found


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that lead round to the first again; empty where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@cache
def _top_level_imports(path: Path) -> tuple[str, ...]:
    """Modules that importing the file imports: not those inside functions or under TYPE_CHECKING."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
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


def test_no_two_modules_import_each_other_however_far_round() -> None:
    assert _cycle(_graph()) == []


PACKAGES = sorted(_module_of(path) for path in _sources() if path.name == "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_stands_side_by_side_has_an_order(package: str) -> None:
    """The children of every package, folders with all that is in them, import from one another without a cycle."""
    assert _cycle(_children(package, _graph())) == []


@pytest.mark.parametrize("floor", INSIDE)
def test_the_folders_of_a_floor_know_only_those_below(floor: str) -> None:
    order = INSIDE[floor]
    children = _children(f"neuralmechanics.{floor}", _graph())
    folders = {path.parent.name for path in (SOURCE / floor).glob("*/__init__.py")}
    assert folders <= set(order), f"{sorted(folders - set(order))} of {floor} have no place in INSIDE"
    assert set(order) <= set(children), f"{sorted(set(order) - set(children))} are not in {floor}"
    for own, imported in children.items():
        for other in imported & set(order) if own in order else ():
            assert order.index(other) < order.index(own), f"{floor}/{own} imports from {floor}/{other} above it"


def test_cycles_are_found() -> None:
    graph = {"p.a.x": {"p.b.y"}, "p.b.z": {"p.a.w"}, "p.b.y": set(), "p.a.w": set(), "q": {"p.a.x"}}
    assert _cycle(graph) == []
    assert _children("p", graph) == {"a": {"b"}, "b": {"a"}}
    assert set(_cycle(_children("p", graph))) == {"a", "b"}
    assert set(_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text().splitlines()
    longest = LONGEST_OF_FLOOR.get(path.relative_to(SOURCE).parts[0], LONGEST_FILE)
    assert len(lines) <= longest, f"{len(lines)} lines: split it by subject"
    assert lines[0].startswith(('"""', 'r"""')), "the first line says what the file is about"
    assert "TODO" not in path.read_text()


def test_folders_stay_readable() -> None:
    counts = Counter(str(path.parent.relative_to(SOURCE)) for path in _sources())
    full = {folder: count for folder, count in counts.items() if count > FULLEST_FOLDER}
    assert not full, f"{full}: make folders by subject"


@pytest.mark.parametrize("floor", MIRRORED)
def test_each_folder_of_the_source_has_its_tests_under_the_same_name(floor: str) -> None:
    folders = [f.parent.name for f in (SOURCE / floor).glob("*/__init__.py")]
    assert folders
    without = [f for f in folders if not list((ROOT / "tests" / floor / f).rglob("test_*.py"))]
    assert not without, f"{floor}: {', '.join(without)} have no tests in folders of those names"


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
