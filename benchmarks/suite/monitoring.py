"""What following the charges adds to a step, as parameters and charges grow."""

from __future__ import annotations

import warnings

import torch
from monitor_cost import measured

import neuralmechanics as nm
from suite.rows import Row, exponent

TITLE = "A monitor at every step"
TEXT = """\
The exact law on two layers under heavy ball, as time added to the optimiser's step. Beside it, on the same
network: the paper's optimiser, which keeps two integrals for every parameter, and a histogram of every
gradient, as trackers take it. A pass is one `torch._foreach_norm` over all parameters."""


def rows(quick: bool) -> list[Row]:
    """Three sizes, then three numbers of hidden units at the middle one."""
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    torch.set_num_threads(1)
    sizes = [10_000, 20_000] if quick else [1_000_000, 4_000_000, 16_000_000]
    units = [10, 20] if quick else [100, 1000, 10_000]
    rounds, found, times = (1 if quick else 5), [], []
    for size in sizes:
        one = measured(size, units[-2], rounds, others=True)
        law, shown = one["exact law"], f"{size:,} parameters, {units[-2]:,} units"
        times.append(law)
        found.append(Row("exact law", shown, law, "ms", "one pass over the parameters", one["pass"]))
        found += [Row("exact law", shown, law, "ms", other, one[other]) for other in ("integral buffers", "histograms")]
    split = []
    for count in units:
        one = measured(sizes[1], count, rounds, others=False)
        split.append(one["exact law"])
        shown = f"{sizes[1]:,} parameters, {count:,} units"
        found.append(Row("exact law", shown, split[-1], "ms", "one pass over the parameters", one["pass"]))
    found.append(Row("exponent in parameters", "", exponent(sizes, times), "", "in proportion", 1.0))
    found.append(Row("exponent in charges", "", exponent(units, split), "", "in proportion", 1.0))
    return found
