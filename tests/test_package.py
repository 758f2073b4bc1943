"""The built wheel holds the whole package, and works from anywhere without the source."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by its own build system and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode and "No matching distribution found for hatchling" in made.stderr:
        pytest.skip("the build system cannot be had here")
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(unpacked: Path) -> None:
    own = {
        path.relative_to(SOURCE)
        for path in (SOURCE / "neuralmechanics").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    built = {path.relative_to(unpacked) for path in (unpacked / "neuralmechanics").rglob("*") if path.is_file()}
    assert built == own
    assert {p.suffix for p in own} > {".py"}  # templates and sources that are compiled are files, too


@pytest.mark.slow
def test_it_works_without_the_source(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import neuralmechanics as nm; print(nm.__file__);"
        "from neuralmechanics.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-I", "-c", code, str(unpacked)]
    found = subprocess.run([*command, "find", "mlp"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.splitlines()[0] == str(unpacked / "neuralmechanics" / "__init__.py")
    assert "rescale" in found.stdout
    trained = [*command, "train", "--steps", "5", "--out", str(tmp_path / "run")]
    assert subprocess.run(trained, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    page = subprocess.run([*command, "report", str(tmp_path / "run")], capture_output=True, text=True, check=True)
    assert (tmp_path / "run" / "report.html").is_file(), page.stderr
