"""How the house stands: lines, folders, long files, names of operations, types, forms of families, comments.

    python benchmarks/house.py                     # this checkout
    python benchmarks/house.py --root ../other     # another one, to compare

Every figure is read off the source text; nothing of the package is imported. That names of operations stay in
their place is held by ``tests/symmetry/lowering/test_operation_names.py``.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 300
SWALLOWING = {"Exception", "BaseException", "AttributeError", "KeyError", "TypeError", "IndexError", "ValueError"}
_FORMS = {
    "Diagonal", "AffineDiagonal", "Shift", "LinearBlocks", "ComplexPairs", "AffineShift", "Rotation", "Shear",
    "Bilinear", "Own",
}  # fmt: skip
_FORMER_FIELDS = {"grams", "gauge", "affine"}  # what a family had for each of its forms before it held an action
_KINDS = {"translation", "scale", "rescale", "linear", "affine"}


@dataclass(frozen=True)
class Figure:
    """One row of the table: what it is, what it is now, what it should be, and what it is made of."""

    name: str
    value: str
    wanted: str
    details: tuple[str, ...] = ()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(root: Path) -> list[Path]:
    """The files of the package."""
    return sorted((root / "src" / "neuralmechanics").rglob("*.py"))


# --- names of operations --------------------------------------------------------------------------------------------


@cache
def operations() -> frozenset[str]:
    """The names of ATen's operations, without their overloads."""
    import torch

    names = torch._C._dispatch_get_all_op_names()
    return frozenset(name.removeprefix("aten::").split(".")[0] for name in names if name.startswith("aten::"))


def names_of_operations(path: Path) -> list[str]:
    """Where a file names operations of ATen: ``torch.ops.aten``, texts with ``aten.``, and tables of their names.

    A table is a display of three or more texts most of which are names of operations. Docstrings are no code.
    """
    found = []
    documentation = set(map(id, _docstrings(tree(path))))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr == "aten":
            found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if "aten." in node.value or "aten::" in node.value:
                found.append((node.lineno, repr(node.value)))
        elif (table := _table(node)) and _mostly_operations(table):
            found.append((node.lineno, f"a table of {len(table)} names: {', '.join(table[:3])}, …"))
    return [f"line {line}: {what}" for line, what in sorted(set(found))]


def _docstrings(module: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(module):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def _table(node: ast.AST) -> list[str]:
    """The texts of a display, or of the arguments of a call; of a dictionary, its keys."""
    entries: list[ast.expr | None] = []
    if isinstance(node, (ast.Set, ast.Tuple, ast.List)):
        entries = list(node.elts)
    elif isinstance(node, ast.Dict):
        entries = list(node.keys)
    elif isinstance(node, ast.Call):
        entries = list(node.args)
    texts = [e.value for e in entries if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    return texts if len(texts) > 2 and len(texts) == len(entries) else []


def _mostly_operations(table: list[str]) -> bool:
    known = [text for text in table if text.removeprefix("aten.").rstrip("_") in operations()]
    return len(known) > 2 and 2 * len(known) > len(table)


def naming_operations(root: Path) -> dict[Path, list[str]]:
    """Files of the symmetry engine outside the rules that name operations of ATen, and where."""
    engine = root / "src" / "neuralmechanics" / "symmetry"
    found = {path: names_of_operations(path) for path in sorted(engine.rglob("*.py")) if "rules" not in path.parts}
    return {path: lines for path, lines in found.items() if lines}


# --- figures ----------------------------------------------------------------------------------------------------------


def lines_of(root: Path) -> Figure:
    counts = [len(path.read_text(encoding="utf-8").splitlines()) for path in sources(root)]
    return Figure("source lines", f"{sum(counts):,} in {len(counts)} files", "about 27,000")


def lines_of_the_engine(root: Path) -> Figure:
    """The part that the plan of this house was drawn for; what stands beside it had another size then, or was not."""
    counts = [len(p.read_text(encoding="utf-8").splitlines()) for p in sources(root) if "symmetry" in p.parts]
    return Figure("    of them the symmetry engine", f"{sum(counts):,} in {len(counts)} files", "14,200 when planned")


def fullest_folder(root: Path) -> Figure:
    folders = Counter(path.parent for path in sources(root))
    full = [f"{count} in {folder.relative_to(root / 'src')}" for folder, count in folders.most_common(4)]
    return Figure("fullest folder", str(max(folders.values())), "at most 13", tuple(full))


def long_files(root: Path) -> Figure:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(root)}
    long = sorted(((n, p) for p, n in sizes.items() if n > LONG), reverse=True)
    return Figure(
        f"files above {LONG} lines",
        str(len(long)),
        "at most 4",
        tuple(f"{n} {p.relative_to(root / 'src')}" for n, p in long),
    )


def operation_names(root: Path) -> Figure:
    found = naming_operations(root)
    details = tuple(f"{len(lines)} in {path.relative_to(root / 'src')}" for path, lines in found.items())
    return Figure("files of the engine, rules apart, that name operations", str(len(found)), "0", details)


def bare_any(root: Path) -> Figure:
    """The share of plain ``Any`` among the annotations of the rules' arguments and results."""
    bare, total = 0, 0
    for path in sources(root):
        if "rules" not in path.parts or "symmetry" not in path.parts:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                a = node.args
                given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
                annotations = [arg.annotation for arg in given if arg.annotation] + [node.returns] * bool(node.returns)
                total += len(annotations)
                bare += sum(isinstance(one, ast.Name) and one.id == "Any" for one in annotations)
    share = f"{bare / total:.0%} of {total:,}" if total else "no rules"
    return Figure("bare Any in the signatures of rules", share, "under 10%")


def asking_for_forms(root: Path) -> Figure:
    """Lines outside the actions that ask which class an action is of, or for what a family had before it held one."""
    return _asking(root, "lines that ask for a family's form", "about 6", _asks_for_form)


def asking_for_kinds(root: Path) -> Figure:
    """Lines outside the actions that ask for a family's kind.

    The kind is no form: scales and rescales are one form, and readers choose by kind. Directions of a space have a kind
    of their own, and the runs that a page reads hold kinds and no actions: neither is a family.
    """
    return _asking(root, "lines that ask for a family's kind", "few", _asks_for_kind)


def _asking(root: Path, name: str, wanted: str, asks: Callable[[ast.expr], bool]) -> Figure:
    found: Counter[Path] = Counter()
    for path in sources(root):
        if path.relative_to(root).parts[2:5] != ("symmetry", "families", "actions"):
            lines = {node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.expr) and asks(node)}
            found[path] += len(lines)
    details = tuple(f"{n} in {p.relative_to(root / 'src')}" for p, n in found.most_common() if n)
    return Figure(name, f"{sum(found.values())} in {len(details)} files", wanted, details)


def _asks_for_form(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return any(isinstance(n, ast.Name) and n.id in _FORMS for n in ast.walk(node.args[1]))
    return isinstance(node, ast.Attribute) and node.attr in _FORMER_FIELDS and _is_family(node.value)


def _asks_for_kind(node: ast.expr) -> bool:
    if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Attribute) or node.left.attr != "kind":
        return False
    texts = [n.value for n in ast.walk(node.comparators[0]) if isinstance(n, ast.Constant)]
    return _is_family(node.left.value) and any(text in _KINDS for text in texts)


def _is_family(node: ast.expr) -> bool:
    """By the names that families have here."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in ("f", "family", "first", "self", "other", "one")


def swallowing(root: Path) -> Figure:
    """Handlers in the engine that catch what a fault of its own would raise, and do not raise again."""
    engine = root / "src" / "neuralmechanics" / "symmetry"
    found = [
        f"{path.relative_to(root / 'src')} line {node.lineno}"
        for path in sorted(engine.rglob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and _is_wide(node)
    ]
    return Figure("handlers in the engine that can swallow a fault", str(len(found)), "0", tuple(found))


def _is_wide(handler: ast.ExceptHandler) -> bool:
    caught = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else {"Exception"}
    return bool(caught & SWALLOWING) and not any(isinstance(n, ast.Raise) for n in ast.walk(handler))


def comments(root: Path) -> Figure:
    """Comments by lines that are neither blank nor prose; orders to tools are no comments."""
    said, lines = 0, 0
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        prose = {n for d in _docstrings(tree(path)) for n in range(d.lineno, (d.end_lineno or d.lineno) + 1)}
        lines += sum(bool(line.strip()) for k, line in enumerate(text.splitlines(), 1) if k not in prose)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                said += not token.string.lstrip("# ").startswith(("noqa", "type:", "fmt:", "---"))
    return Figure("comments", f"{said / lines:.1%} of {lines:,} lines", "about 3%")


FIGURES: tuple[Callable[[Path], Figure], ...] = (
    lines_of, lines_of_the_engine, fullest_folder, long_files, operation_names, bare_any, asking_for_forms,
    asking_for_kinds, swallowing, comments,
)  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure")
    parser.add_argument("--details", action="store_true", help="say what each figure is made of")
    arguments = parser.parse_args()
    for figure in (measure(arguments.root.resolve()) for measure in FIGURES):
        print(f"{figure.name:56s} {figure.value:28s} wanted: {figure.wanted}")
        for line in figure.details if arguments.details else ():
            print(f"    {line}")


if __name__ == "__main__":
    main()
