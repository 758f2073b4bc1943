"""Puts the paper figures of `neuralmechanics figures --scale smoke` into the docs, and prints the tables of the page.

    neuralmechanics figures --scale smoke --out figures
    python docs/show_figures.py figures docs/images

Pictures are drawn again from the runs at the size of a page; the tables hold the largest errors of each kind.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from neuralmechanics.experiments.paper import PAPER_FIGURES, paper_sweep
from neuralmechanics.monitor import open_run
from neuralmechanics.report.paper import RUN_FIGURES
from neuralmechanics.report.theory.figures import FIGURES

DPI, LARGEST = 110, 300_000
LAWS = ["exact", "first_order", "modified_flow", "modified_loss", "gradient_flow"]


def main() -> None:
    """Draws and prints."""
    made, images = Path(sys.argv[1]), Path(sys.argv[2])
    for name, draw in FIGURES.items():
        save(draw(), images / f"{name}.png")
    tables = {}
    for name in PAPER_FIGURES:
        sweep = paper_sweep(name, "smoke", made / "runs" / "smoke" / name)
        figure, tables[name] = RUN_FIGURES[name]([open_run(sweep.folder(point)) for point in sweep.points])
        save(figure, images / f"{name}.png")
    show(tables["fig5"], ["model", "weight_decay"])
    for name, by in (("momentum", ["momentum"]), ("phase", ["model", "weight_decay"]), ("schedules", ["schedule"])):
        show(tables[name], by)


def save(figure: object, path: Path) -> None:
    """As PNG of 256 colours, which line drawings do not miss."""
    content = BytesIO()
    figure.savefig(content, dpi=DPI, facecolor="white")  # type: ignore[attr-defined]
    picture = Image.open(content).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")


def show(errors: pd.DataFrame, by: list[str]) -> None:
    """Largest error over runs with the same settings, a row a kind (biases before a norm apart), a column a law."""
    each = errors[errors["family"] != "all"].copy()
    hidden = (each["kind"] == "translation") & ~each["family"].str.contains("head")
    each["kind"] = each["kind"].mask(hidden, "bias before a norm")
    laws = [law for law in LAWS if law in set(each["law"])]
    table = each.pivot_table("max_error", [*by, "kind"], "law", aggfunc="max", sort=False)[laws]
    print(f"\n| {' | '.join([*by, 'kind', *laws])} |\n|{'---|' * (len(by) + 1 + len(laws))}")
    for key, row in table.iterrows():
        print(f"| {' | '.join([*map(str, key), *(f'{error:.1e}' for error in row)])} |")


if __name__ == "__main__":
    main()
