"""Pictures of an example: every matplotlib figure that a block of it has made, in the order of their names' making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def scraper(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Saves the figures that are new among the example's variables."""
    saved = block_vars.setdefault("saved_figures", set())
    paths = block_vars["image_path_iterator"]
    new: list[str] = []
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and id(value) not in saved:
            saved.add(id(value))
            path = Path(next(paths))
            value.savefig(path, dpi=110, facecolor="white")
            new.append(str(path))
    return figure_rst(new, gallery_conf["src_dir"])


def reset(gallery_conf: dict[str, Any], fname: str) -> None:
    """Every example begins with the same random state."""
    import torch

    torch.manual_seed(0)
