"""The reference describes every public name, and what pages name exists: functions, tests, modules."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from tests.pages import DOCS, PAGES, ROOT, blocks

import neuralmechanics

ROLE = re.compile(r"\{py:\w+\}`(?:[^`<]*<)?([\w.]+)>?`")
TEST = re.compile(r"\[`(test_\w+)`\]\(([\w./]+)\)")
IMPORT = re.compile(r"^(?:>>> )?from (neuralmechanics[\w.]*) import (.+)$", re.MULTILINE)
NAMES = "{names} "


def _public_modules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_modules", DOCS / "_ext" / "public_modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PUBLIC = _public_modules()
MODULES = (*PUBLIC.PUBLIC, *PUBLIC.INSIDE)


def described() -> dict[str, Counter[str]]:
    """By module, how often each name stands in a table; a table without a list holds what no other does."""
    listed: dict[str, Counter[str]] = {module: Counter() for module in MODULES}
    open_ended: Counter[str] = Counter()
    for page in PAGES:
        for block in blocks(page):
            if block.language.startswith(NAMES):
                module = block.language.split()[1]
                listed[module].update(block.text.split())
                open_ended[module] += not block.text.split()
    for module in PUBLIC.PUBLIC:
        assert open_ended[module] == 1, f"docs/reference needs one table of {module} without a list: its further names"
        listed[module].update(set(PUBLIC.public_names(importlib.import_module(module))) - set(listed[module]))
    return listed


@pytest.mark.parametrize("module", PUBLIC.PUBLIC)
def test_every_public_name_is_described_once(module: str) -> None:
    wanted = PUBLIC.public_names(importlib.import_module(module))
    found = described()[module]
    assert set(found) == set(wanted), f"docs/reference: {module} lacks {set(wanted) - set(found)}"
    assert max(found.values(), default=1) == 1


@pytest.mark.parametrize("module", PUBLIC.INSIDE)
def test_what_is_described_where_it_is_defined_is_there(module: str) -> None:
    found = described()[module]
    assert set(found) <= set(PUBLIC.public_names(importlib.import_module(module)))
    assert found


def test_every_module_that_the_package_offers_has_a_place() -> None:
    offered = {f"neuralmechanics.{name}" for name in neuralmechanics.__all__}
    modules = {name for name in offered if importlib.util.find_spec(name.rpartition(".")[0]) and _is_module(name)}
    assert modules <= set(PUBLIC.PUBLIC)
    assert modules


def _is_module(name: str) -> bool:
    return isinstance(getattr(neuralmechanics, name.rpartition(".")[2]), ModuleType)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_described(page: Path) -> None:
    """A link to a name leads to the module in which the name is at home, so that it is one in the built pages."""
    for target in ROLE.findall(page.read_text()):
        module = max((one for one in MODULES if f"{target}.".startswith(f"{one}.")), key=len)
        value: object = importlib.import_module(module)
        path = [part for part in target.removeprefix(module).split(".") if part]
        for part in path:
            value = getattr(value, part)
        if path:
            assert path[0] in PUBLIC.public_names(importlib.import_module(module)), target
            assert PUBLIC.home(module, path[0]) == module, f"{target} is described in {PUBLIC.home(module, path[0])}"


def test_every_formula_names_what_computes_it_and_every_test_is_there() -> None:
    page = DOCS / "theory" / "index.md"
    text = page.read_text()
    proofs = TEST.findall(text)
    for function, path in proofs:
        assert f"def {function}(" in (page.parent / path).read_text(), f"{path} has no {function}"
    formulas = text.split("```{math}")[1:]
    labels = [re.search(r":label: (\S+)", formula) for formula in formulas]
    assert all(labels)
    assert len({label[1] for label in labels if label}) == len(formulas) > 30
    # The two exact laws stand together and share what is said below the second.
    unsaid = [label[1] for label, formula in zip(labels, formulas, strict=True) if label and not _said(formula)]
    assert unsaid == ["exact-translation"]


def _said(formula: str) -> bool:
    return bool(ROLE.search(formula) or TEST.search(formula))


def test_pages_import_what_is_public() -> None:
    """What code on a page imports from the package is described in the reference."""
    for page in PAGES:
        for block in blocks(page):
            for module, names in re.findall(
                r"^(?:>>> )?from (neuralmechanics[\w.]*) import (.+)$", block.text, re.MULTILINE
            ):
                wanted = {name.strip(" ()") for name in names.split(",")}
                here = f"{page.relative_to(ROOT)}: from {module} import {names}"
                if module not in MODULES:
                    assert page.name in INSIDE_THE_ENGINE, f"{here} is not public"
                    continue
                loaded = importlib.import_module(module)
                assert wanted <= {*PUBLIC.public_names(loaded), *_submodules(module)}, here


# Pages that show how something is made, with the parts that it is made of.
INSIDE_THE_ENGINE = ("symmetry_engine.md", "own_operation.md")


def _submodules(module: str) -> set[str]:
    return {one.rpartition(".")[2] for one in MODULES if one.rpartition(".")[0] == module}
