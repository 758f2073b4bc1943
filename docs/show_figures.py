"""Puts the figures that `neuralmechanics figures` made into the docs, and prints the tables of the page.

    neuralmechanics figures all --scale small --out figures
    python docs/show_figures.py figures docs/images [--prefix small_] [figure …]

Pictures are made small enough for a page; the tables hold the largest errors of each kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image

WIDTH, LARGEST = 1200, 300_000
LAWS = ["exact", "first_order", "modified_flow", "modified_loss", "gradient_flow"]
TABLES = {
    "fig5": ["model", "weight_decay"],
    "momentum": ["momentum", "dampening"],
    "phase": ["model", "weight_decay"],
    "schedules": ["schedule"],
}


def main() -> None:
    """Shrinks the pictures and prints the tables of those that have one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("made", type=Path, help="the folder that `neuralmechanics figures --out` was given")
    parser.add_argument("images", type=Path)
    parser.add_argument("names", nargs="*", help="figures; all that are there when none is given")
    parser.add_argument("--prefix", default="", help="what the pictures' names begin with")
    options = parser.parse_args()
    names = options.names or sorted(path.stem for path in options.made.glob("*.png"))
    for name in names:
        save(options.made / f"{name}.png", options.images / f"{options.prefix}{name}.png")
    for name, by in TABLES.items():
        if name in names:
            print(f"\n{name}")
            show(pd.read_csv(options.made / f"{name}.csv"), by)


def save(made: Path, path: Path) -> None:
    """As PNG of 256 colours, which line drawings do not miss."""
    picture = Image.open(made).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
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
