"""Sphinx configuration: furo, MyST, mathematics that needs no network, a reference and a gallery made by the build."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Examples of the gallery measure seconds on one thread, as the tests do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "neuralmechanics"
author = "the neuralmechanics contributors"
release = installed_version("neuralmechanics")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # its files are copied beside the pages
    "sphinx_gallery.gen_gallery",
    "public_names",
    "plain_docstrings",
]
exclude_patterns = ["_build", "_ext", "examples", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
smartquotes = False  # x'' is a second derivative
# Types in signatures are written by their short names, of which some are two classes; pages name theirs in full.
suppress_warnings = ["config.cache", "ref.python"]

html_theme = "furo"
html_title = "neuralmechanics"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
math_number_all = False
math_eqref_format = "({number})"

# Optional libraries that the documentation does without; what is written about them is read from the source.
autodoc_mock_imports = [name for name in ("lightning", "transformers", "wandb", "mlflow", "tensorboard")
                        if find_spec(name) is None]  # fmt: skip
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": str(HERE / "examples"),
    "gallery_dirs": str(HERE / "gallery"),
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("gallery_figures.scraper",),
    "capture_repr": (),
    "reset_modules": ("gallery_figures.reset",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
}
