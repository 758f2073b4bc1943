"""The directive ``names``: a table of public names of a module, then what each of them is.

    ```{names} neuralmechanics.laws
    ExactLaw
    IdentityLaw
    ```

Without a list all names in ``__all__`` are meant; ``{names} neuralmechanics.laws rest`` are those that no table above
it on the page has listed, under a heading of their own where there are any. A name that another public module offers
first is described there; the table links to it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType
from typing import Any

from docutils import nodes
from public_modules import PUBLIC, home, public_names
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective


def _role(value: Any) -> str:
    if isinstance(value, ModuleType):
        return "mod"
    if inspect.isclass(value):
        return "exc" if issubclass(value, BaseException) else "class"
    return "func" if callable(value) and hasattr(value, "__code__") else "data"


def _first_sentence(value: Any) -> str:
    """The first paragraph of the docstring, on one line, up to its first full stop; nothing for constants."""
    if not (inspect.isclass(value) or callable(value) or isinstance(value, ModuleType)):
        return ""
    lines = (inspect.getdoc(value) or "").split("\n\n")[0].split()
    return " ".join(lines).split(". ")[0].rstrip(".:")


_CODE = re.compile(r"(``[^`]+``|`[^`]+`)")


def _escaped(text: str) -> str:
    """The text as it stands, but for names between backticks, which stay code."""
    parts = _CODE.split(text)
    parts[::2] = [re.sub(r"([\\`*_|<\[{$])", r"\\\1", part) for part in parts[::2]]
    return "".join(part.replace("|", "\\|") if number % 2 else part for number, part in enumerate(parts))


class Names(SphinxDirective):
    """See the module."""

    has_content = True
    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A table of names with first sentences, then the entries that have their home here."""
        with mock(self.config.autodoc_mock_imports):
            return self._described(self.arguments[0])

    def _described(self, module: str) -> list[nodes.Node]:
        loaded = importlib.import_module(module)
        listed: dict[str, list[str]] = self.env.temp_data.setdefault("listed names", {})
        above = listed.setdefault(module, [])
        names = [line.strip() for line in self.content if line.strip()]
        if not names:
            names = [name for name in public_names(loaded) if name not in above]
        above += names
        rows, entries = ["| name | what it is |", "|---|---|"], []
        for name in names:
            value = getattr(loaded, name)
            role, at = _role(value), home(module, name)
            target = value.__name__ if role == "mod" else f"{at}.{name}"
            rows.append(f"| {{py:{role}}}`{name} <{target}>` | {_escaped(_first_sentence(value))} |")
            if at == module and role != "mod":
                entries += _entry(role, f"{module}.{name}", value)
        if not names:
            return []
        heading = [f"```{{rubric}} Further names of {module}", "```", ""] if self.arguments[1:] == ["rest"] else []
        text = "\n".join([*heading, *rows, "", *entries])
        return self.parse_text_to_nodes(text, allow_section_headings=False)


def _inherited(value: type) -> list[str]:
    """The option that shows what a class has from bases that are on no page; nothing where there are none."""
    own = [base for base in value.__mro__[1:] if base.__module__.startswith("neuralmechanics.")]
    described = {
        base
        for base in own
        for module in PUBLIC
        if getattr(importlib.import_module(module), base.__name__, None) is base
    }
    if not own or described:
        return []
    foreign = [base.__name__ for base in value.__mro__ if base not in (value, *own)]
    return [f"   :inherited-members: {', '.join(foreign)}"]


def _entry(role: str, name: str, value: Any) -> list[str]:
    directive = {"exc": "autoexception", "class": "autoclass", "func": "autofunction", "data": "autodata"}[role]
    lines = [f".. {directive}:: {name}"]
    if role in ("class", "exc"):
        lines += ["   :members:", "   :undoc-members:", *_inherited(value)]
    if role == "data" and not isinstance(value, (str, tuple)):
        lines += ["   :no-value:"]
    return ["```{eval-rst}", *lines, "```", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("names", Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
