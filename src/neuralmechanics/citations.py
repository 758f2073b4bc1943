"""What to cite: the papers behind what was used, by the modules that were loaded for it or that are named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Reference", "cite", "references"]


@dataclass(frozen=True)
class Reference:
    """A publication: its key, authors, title, where it appeared and when, and what here rests on it."""

    key: str
    authors: str
    title: str
    where: str
    year: int
    basis: str
    modules: tuple[str, ...] = ()
    arxiv: str = ""

    def __str__(self) -> str:
        link = f" https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""
        return f"{self.authors}. {self.title}. {self.where}, {self.year}.{link}"

    def bibtex(self) -> str:
        """As an entry of a bibliography."""
        fields = {"author": self.authors.replace(", ", " and "), "title": f"{{{self.title}}}", "note": self.where}
        fields |= {"year": str(self.year)} | ({"eprint": self.arxiv, "eprinttype": "arxiv"} if self.arxiv else {})
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"


_ALL = (
    Reference(
        "kunin2021neural",
        "D. Kunin, J. Sagastuy-Brena, S. Ganguli, D. L. K. Yamins, H. Tanaka",
        "Neural Mechanics: Symmetry and Broken Conservation Laws in Deep Learning Dynamics",
        "ICLR",
        2021,
        "symmetries, charges and their laws",
        ("neuralmechanics",),
        "2012.04728",
    ),
    Reference(
        "marcotte2023abide",
        "S. Marcotte, R. Gribonval, G. Peyré",
        "Abide by the Law and Follow the Flow: Conservation Laws for Gradient Flows",
        "NeurIPS",
        2023,
        "the number of independent conservation laws",
        ("neuralmechanics.diagnostics.counting",),
        "2307.00144",
    ),
    Reference(
        "zhao2023symmetries",
        "B. Zhao, I. Ganev, R. Walters, R. Yu, N. Dehmamy",
        "Symmetries, Flat Minima, and the Conserved Quantities of Gradient Flow",
        "ICLR",
        2023,
        "charges that hold for one data set",
        ("neuralmechanics.flows.equation.data_set_charges",),
        "2210.17216",
    ),
    Reference(
        "barrett2021implicit",
        "D. G. T. Barrett, B. Dherin",
        "Implicit Gradient Regularization",
        "ICLR",
        2021,
        "the modified loss",
        ("neuralmechanics.flows.models.modified_loss",),
        "2009.11162",
    ),
    Reference(
        "hairer2006geometric",
        "E. Hairer, C. Lubich, G. Wanner",
        "Geometric Numerical Integration",
        "Springer",
        2006,
        "modified flows of any order",
        ("neuralmechanics.flows.models.modified_flow",),
    ),
    Reference(
        "rosca2023continuous",
        "M. Rosca, Y. Wu, C. Qin, B. Dherin",
        "On a Continuous Time Model of Gradient Descent Dynamics and Instability in Deep Learning",
        "TMLR",
        2023,
        "the principal flow",
        ("neuralmechanics.flows.models.principal_flow",),
        "2302.01952",
    ),
    Reference(
        "cattaneo2024implicit",
        "M. D. Cattaneo, J. M. Klusowski, B. Shigida",
        "On the Implicit Bias of Adam",
        "ICML",
        2024,
        "the flows of Adam and RMSprop",
        ("neuralmechanics.flows.models.adam_rmsprop",),
        "2309.00079",
    ),
    Reference(
        "cohen2025central",
        "J. M. Cohen, A. Damian, A. Talwalkar, J. Z. Kolter, J. D. Lee",
        "Understanding Optimization in Deep Learning with Central Flows",
        "ICLR",
        2025,
        "the central flow, past the edge of stability",
        ("neuralmechanics.flows.edge.central_flow", "neuralmechanics.flows.edge.central_rmsprop"),
        "2410.24206",
    ),
    Reference(
        "regis2026rod",
        "E. Regis, S. Chewi",
        "Rod Flow: A Continuous-Time Model for Gradient Descent at the Edge of Stability",
        "arXiv",
        2026,
        "the rod flow, past the edge of stability",
        ("neuralmechanics.flows.edge.rod_flow",),
        "2602.01480",
    ),
    Reference(
        "regis2026adam",
        "E. Regis, S. Chewi",
        "A Rod Flow Model for Adam at the Edge of Stability",
        "arXiv",
        2026,
        "the rod flow of RMSprop",
        ("neuralmechanics.flows.edge.rod_flow",),
        "2605.06821",
    ),
    Reference(
        "marion2026edge",
        "P. Marion",
        "Edge Flow: A Tractable and Predictive Continuous-Time Model for Gradient Descent at the Edge of Stability",
        "arXiv",
        2026,
        "the edge flow, past the edge of stability",
        ("neuralmechanics.flows.edge.edge_flow",),
        "2606.18080",
    ),
    Reference(
        "li2017stochastic",
        "Q. Li, C. Tai, W. E",
        "Stochastic Modified Equations and Adaptive Stochastic Gradient Algorithms",
        "ICML",
        2017,
        "the stochastic flow",
        ("neuralmechanics.flows.models.stochastic",),
        "1511.06251",
    ),
    Reference(
        "kloeden1992numerical",
        "P. E. Kloeden, E. Platen",
        "Numerical Solution of Stochastic Differential Equations",
        "Springer",
        1992,
        "sample paths of weak order 2",
        ("neuralmechanics.flows.integration.stochastic.stochastic_paths",),
    ),
    Reference(
        "dormand1980family",
        "J. R. Dormand, P. J. Prince",
        "A Family of Embedded Runge-Kutta Formulae",
        "Journal of Computational and Applied Mathematics 6",
        1980,
        "adaptive integration",
        ("neuralmechanics.flows.integration.dormand_prince",),
    ),
    Reference(
        "wan2021spherical",
        "R. Wan, Z. Zhu, X. Zhang, J. Sun",
        "Spherical Motion Dynamics: Learning Dynamics of Normalized Neural Network using SGD and Weight Decay",
        "NeurIPS",
        2021,
        "equilibrium norms",
        ("neuralmechanics.laws.equilibrium",),
        "2006.08419",
    ),
    Reference(
        "kosson2024rotational",
        "A. Kosson, B. Messmer, M. Jaggi",
        "Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks",
        "ICML",
        2024,
        "equilibrium rotation",
        ("neuralmechanics.laws.equilibrium",),
        "2305.17212",
    ),
)


def references(*used: Any, loaded: Mapping[str, Any] | None = None) -> tuple[Reference, ...]:
    """The papers behind objects of this package (functions, classes, modules), or behind all that was loaded.

    Each counts with the module that defines it. Raises ValueError for what is not of this package.

    >>> from neuralmechanics.diagnostics import count_laws
    >>> [reference.key for reference in references(count_laws)]
    ['kunin2021neural', 'marcotte2023abide']
    """
    if used:
        modules = [_module_of(each) for each in used]
        stray = next((each for each, module in zip(used, modules, strict=True) if not _inside(module)), None)
        if stray is not None:
            raise ValueError(f"{stray!r} is not of neuralmechanics; give functions, classes or modules of it")
    else:
        modules = [name for name in (sys.modules if loaded is None else loaded) if _inside(name)]
    known = (*modules, "neuralmechanics")
    return tuple(r for r in _ALL if any(_rests_on(module, own) for module in known for own in r.modules))


def cite(*used: Any, bibtex: bool = False) -> None:
    """Print the papers behind what was used, as text or as BibTeX, with what rests on each.

    Without arguments what counts is what this process has loaded.

    >>> from neuralmechanics.symmetry import find_symmetries
    >>> cite(find_symmetries)
    symmetries, charges and their laws:
      D. Kunin, J. Sagastuy-Brena, S. Ganguli, D. L. K. Yamins, H. Tanaka. Neural Mechanics: Symmetry and Broken
      Conservation Laws in Deep Learning Dynamics. ICLR, 2021. https://arxiv.org/abs/2012.04728
    """
    import textwrap

    for reference in references(*used):
        if bibtex:
            print(reference.bibtex())
        else:
            lines = textwrap.wrap(str(reference), 110, break_long_words=False, break_on_hyphens=False)
            print("\n  ".join([f"{reference.basis}:", *lines]))


def _module_of(used: Any) -> str:
    name = getattr(used, "__name__", "")
    return name if name in sys.modules else str(getattr(used, "__module__", type(used).__module__))


def _inside(module: str) -> bool:
    return module == "neuralmechanics" or module.startswith("neuralmechanics.")


def _rests_on(module: str, own: str) -> bool:
    """Whether a module is the one that rests on a paper, or inside of it; of the package itself only as such."""
    return module == own or (own != "neuralmechanics" and module.startswith(f"{own}."))
