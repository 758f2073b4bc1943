"""What is cited is what was used, and the citation file says the same as the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import neuralmechanics as nm
from neuralmechanics.citations import references

ROOT = Path(__file__).resolve().parents[1]
PAPER = "kunin2021neural"


def keys(*used: object, **options: object) -> set[str]:
    return {reference.key for reference in references(*used, **options)}  # type: ignore[arg-type]


def test_of_objects_the_papers_behind_them() -> None:
    assert keys(nm.find_symmetries) == {PAPER}
    assert keys(nm.count_laws) == {PAPER, "marcotte2023abide"}
    assert keys(nm.flows.ModifiedLoss, nm.flows.AdamFlow) == {PAPER, "barrett2021implicit", "cattaneo2024implicit"}
    assert keys(nm.laws.equilibrium_norm) == {PAPER, "wan2021spherical", "kosson2024rotational"}
    with pytest.raises(ValueError, match="is not of neuralmechanics"):
        references(Path)


def test_of_a_process_what_it_has_loaded() -> None:
    assert keys(loaded={"torch": None}) == {PAPER}
    counted = {"neuralmechanics": None, "neuralmechanics.diagnostics.counting.rank": None}
    assert keys(loaded=counted) == {PAPER, "marcotte2023abide"}


def test_every_paper_names_a_module_that_is_there() -> None:
    import neuralmechanics.citations as citations

    for reference in citations._ALL:
        for module in reference.modules:
            place = ROOT / "src" / Path(*module.split("."))
            assert place.is_dir() or place.with_suffix(".py").is_file(), module
        assert str(reference.year) in str(reference)
        assert reference.bibtex().count("{") == reference.bibtex().count("}")


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    nm.cite(nm.count_laws, bibtex=True)
    shown = capsys.readouterr().out
    assert shown.count("@misc{") == 2
    assert "eprint = {2307.00144}" in shown


def test_the_citation_file_has_the_version_and_the_paper() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in text
    assert f"## {version} " in (ROOT / "CHANGELOG.md").read_text()
    assert f"https://arxiv.org/abs/{references(nm.find_symmetries)[0].arxiv}" in text
