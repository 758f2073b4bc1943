"""Sphinx configuration: furo, MyST, nothing generated."""

project = "neuralmechanics"
author = "the neuralmechanics contributors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "neuralmechanics"
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["toc.empty_glob"]
