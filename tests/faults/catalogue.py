"""One-line faults of the kinds that are made: what stands in the source, what is put there, which tests must fail."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """In ``file`` (of the package) the one place that reads ``before`` becomes ``after``; ``tests`` are run."""

    area: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def _of(area: str, file: str, name: str, before: str, after: str, *tests: str) -> Fault:
    return Fault(area, name, file, before, after, tuple(f"tests/{test}" for test in tests))


_LAWS = "laws/test_exact.py", "laws/test_reference_optimizer.py"
_FLOW = "laws/test_modified_flow.py", "laws/test_reference_optimizer.py"
_WATCH = (
    "optimizers/test_updates.py",
    "optimizers/test_setting.py",
    "monitor/following/test_watch.py",
    "monitor/equivalence/test_equivalence.py",
)
_RULES = "symmetry/operations/test_numbers.py", "symmetry/test_other_names.py"
_SEARCH = "symmetry/test_classical.py", "symmetry/test_modern.py", "symmetry/test_nullspace.py"
_STORE = "monitor/store/test_store.py", "durability"

FAULTS: tuple[Fault, ...] = (
    # --- laws -------------------------------------------------------------------------------------------------------
    _of(
        "laws",
        "laws/exact.py",
        "the companion's sign",
        "companion=torch.add(x, W, alpha=-1 / η) if η > 0 else x",
        "companion=torch.add(x, W, alpha=1 / η) if η > 0 else x",
        *_LAWS,
    ),
    _of(
        "laws", "laws/exact.py", "decoupled decay without its own pull", "slope = along + pull", "slope = along", *_LAWS
    ),
    _of(
        "laws",
        "laws/exact.py",
        "momentum survives a restart",
        "x = torch.where(c.restart, 0.0, β * C) + c.gain * u",
        "x = β * C + c.gain * u",
        *_LAWS,
    ),
    _of(
        "laws",
        "laws/exact.py",
        "the companion is lost while momentum rests",
        "companion=torch.where(c.running, turning, resting),",
        "companion=torch.where(c.running, turning, 0.0),",
        *_LAWS,
    ),
    _of(
        "laws",
        "laws/coefficients.py",
        "dampening at a first step",
        "gain=torch.where(restart, 1.0, 1 - dampening),",
        "gain=1 - dampening,",
        *_LAWS,
    ),
    _of(
        "laws",
        "laws/continuous/relaxation.py",
        "quadratic charges decay as sums do",
        "return (1 + quadratic.to(torch.float64)) * c.learning_rate * c.weight_decay * lasting",
        "return c.learning_rate * c.weight_decay * lasting",
        "laws/test_relaxation.py",
    ),
    _of(
        "laws",
        "laws/continuous/relaxation.py",
        "the modified loss of Nesterov's momentum",
        "torch.where(c.nesterov, μ + 2 * β * β, 1 + β)",
        "torch.where(c.nesterov, 1 + β, 1 + β)",
        "laws/test_relaxation.py",
        "laws/test_reference_optimizer.py",
    ),
    _of(
        "laws",
        "laws/continuous/modified_flow.py",
        "the companion while the buffer rests",
        "companion if P is None else torch.where(c.running, companion, companion + P)",
        "companion",
        *_FLOW,
    ),
    _of(
        "laws",
        "laws/continuous/modified_flow.py",
        "no slope anew when momentum changes",
        "& (memory == now.memory) & ~c.restart",
        "& ~c.restart",
        *_FLOW,
    ),
    _of(
        "laws",
        "laws/continuous/oscillator.py",
        "the overdamped pole",
        "slow = torch.exp(torch.where(over, -ω2 / pole, -γ) * t)",
        "slow = torch.exp(torch.where(over, -γ, -γ) * t)",
        "laws/test_closed_forms.py",
        "laws/test_modified_flow.py",
    ),
    # --- slices -----------------------------------------------------------------------------------------------------
    _of(
        "slices",
        "slices/sums.py",
        "complex products without the conjugate",
        "(left * right.conj()).real",
        "(left * right).real",
        "slices",
    ),
    _of(
        "slices",
        "slices/mix.py",
        "rows taken for columns",
        "(rows if by_rows else columns)[0]",
        "(columns if by_rows else rows)[0]",
        "slices",
    ),
    _of(
        "slices",
        "slices/mix.py",
        "sizes with their signs",
        "np.add.at(out, term.charges, np.abs(term.coefficients) * each)",
        "np.add.at(out, term.charges, term.coefficients * each)",
        "slices",
        "symmetry/test_families.py",
    ),
    _of(
        "slices",
        "slices/blocks.py",
        "sums of a later block replace those before",
        "of_columns[p, at[1]] += product[0]",
        "of_columns[p, at[1]] = product[0]",
        "slices",
    ),
    # --- optimizers -------------------------------------------------------------------------------------------------
    _of(
        "optimizers",
        "optimizers/watch.py",
        "a copy outlives the step that needed it",
        "                self._copies.pop(name, None)\n\n    def judge",
        "                pass\n\n    def judge",
        *_WATCH,
    ),
    _of(
        "optimizers",
        "optimizers/hyperparameters/setting.py",
        "two tensor rates taken for one",
        'return tuple(("tensor", id(value)) if isinstance(value, Tensor)',
        'return tuple(("tensor", 0) if isinstance(value, Tensor)',
        *_WATCH,
        "monitor/following",
    ),
    _of(
        "optimizers",
        "optimizers/updates/update.py",
        "maximize is overlooked",
        "own = -self.left if self.setting.maximize else self.left",
        "own = self.left",
        *_WATCH,
    ),
    _of(
        "optimizers",
        "optimizers/watch.py",
        "a parameter without a gradient is taken to move",
        "return self.known and parameter.grad is None and parameter._version == self._versions[name]",
        "return False",
        *_WATCH,
    ),
    _of(
        "optimizers",
        "optimizers/hyperparameters/setting.py",
        "a group's own decay is not read",
        'weight_decay=_number(group.get("weight_decay", 0.0)),',
        'weight_decay=_number(optimizer.defaults.get("weight_decay", 0.0)),',
        *_WATCH,
    ),
    _of(
        "optimizers",
        "optimizers/hyperparameters/sgd.py",
        "dampening without momentum",
        "(1 - self.dampening if self.momentum else 1.0)",
        "(1 - self.dampening)",
        "optimizers",
        "experiments/training/test_schedule.py",
        "flows/models/test_momentum.py",
    ),
    # --- rules and domains ------------------------------------------------------------------------------------------
    _of(
        "symmetry",
        "symmetry/domains/scaling/domain.py",
        "rows that nothing reads scale by themselves",
        "self.system.add([1, -1], paired_rows(dead, term.ids.take([read], axis=view.dim)), self.cause)",
        "pass",
        *_SEARCH,
        "symmetry/test_liveness.py",
    ),
    _of(
        "symmetry",
        "symmetry/domains/shift/domain.py",
        "a difference shifts as a sum",
        "other = y.terms if scale == 1 else tuple(replace(t, factor=t.factor * scale) for t in y.terms)",
        "other = y.terms",
        *_SEARCH,
        "symmetry/test_unsound.py",
        "symmetry/test_other_names.py",
    ),
    _of(
        "symmetry",
        "symmetry/domains/shift/domain.py",
        "an absorbed shift of several readers",
        "alone = name in self._single and whole and not t.pattern and t.varies == bias.varies",
        "alone = whole and not t.pattern and t.varies == bias.varies",
        *_SEARCH,
        "symmetry/test_unsound.py",
        "symmetry/claims/test_claims.py",
    ),
    _of(
        "symmetry",
        "symmetry/lowering/rules/reducing/reductions.py",
        "logsumexp without its first entry",
        "return reshape(d, d.add(first, normalised, -1.0), meta_shape(node))",
        "return reshape(d, d.scaled(normalised, -1.0), meta_shape(node))",
        *_RULES,
    ),
    _of(
        "symmetry",
        "symmetry/lowering/rules/rearranging/arrangements.py",
        "a turn the other way",
        "if k % 4 == 1:",
        "if k % 4 == 3:",
        *_RULES,
    ),
    _of(
        "symmetry",
        "symmetry/lowering/lower.py",
        "what a rule had written before it gave up stays",
        "self.builder.roll_back(before)\n                if not dependent:",
        "if not dependent:",
        "symmetry/test_own_operations.py",
        "symmetry/test_refusals.py",
        "symmetry/test_fails_closed.py",
    ),
    _of(
        "symmetry",
        "symmetry/lowering/inlining.py",
        "shapes of a decomposition unchecked",
        "if shapes != wanted:",
        "if False:",
        "symmetry/test_own_operations.py",
    ),
    _of(
        "symmetry",
        "symmetry/families/actions/diagonal.py",
        "negative factors of even powers",
        "out[name] = out[name] * (1 - 2 * (odd.round() % 2))",
        "out[name] = -out[name]",
        "symmetry/test_actions.py",
        "symmetry/spaces",
    ),
    _of(
        "symmetry",
        "symmetry/families/actions/terms/gram_terms.py",
        "readers turn with A and not with its inverse",
        "chosen = torch.where(negative[:, None, None], torch.linalg.inv(chosen).mT, chosen)",
        "chosen = torch.where(negative[:, None, None], chosen, chosen)",
        "symmetry/test_actions.py",
    ),
    _of(
        "symmetry",
        "symmetry/families/recognition.py",
        "sizes taken for what is linear",
        "for x, y, z in (probes.near, probes.far, (probes.far[0], probes.near[1], probes.far[2])):",
        "for x, y, z in (probes.near,):",
        "symmetry/test_own_symmetries.py",
    ),
    _of(
        "symmetry",
        "symmetry/finding/rule_check.py",
        "claims that are not tried",
        "if error > 100 * self.tolerance:",
        "if error > 1e300:",
        "symmetry/test_own_operations.py",
    ),
    # --- store ------------------------------------------------------------------------------------------------------
    _of(
        "store",
        "files/publishing.py",
        "no fsync before the rename",
        "            os.fsync(handle)\n        finally:\n            os.close(handle)\n        os.replace",
        "            pass\n        finally:\n            os.close(handle)\n        os.replace",
        *_STORE,
    ),
    _of(
        "store",
        "files/publishing.py",
        "a short write is taken for a whole one",
        "    while rest:\n        rest = rest[os.write(handle, rest) :]",
        "    os.write(handle, rest)",
        *_STORE,
    ),
    _of(
        "store",
        "monitor/store/shards/shard.py",
        "checksums are not compared",
        "if _checksum(place, name, array) != checksums[name]:",
        "if False:",
        *_STORE,
    ),
    _of(
        "store",
        "monitor/store/shards/shard.py",
        "an array that is missing",
        "if set(arrays) != set(checksums):",
        "if False:",
        *_STORE,
    ),
    _of(
        "store",
        "monitor/store/run_store.py",
        "other symmetries in the same folder",
        "                _require_same_symmetries(folder, read_run_file(folder), content)",
        "                pass",
        *_STORE,
    ),
    _of(
        "store",
        "monitor/store/run_store.py",
        "the tally of a closed run",
        "write_tally(self.path, self._tally(self._link.before, closed=True), durable=True)",
        "write_tally(self.path, self._tally(self._link.before, closed=False), durable=True)",
        *_STORE,
    ),
    _of(
        "store",
        "monitor/warning.py",
        "a subject is told again",
        "        if subject in self._told:\n            return\n",
        "",
        "monitor/store",
        "monitor/following/test_watch.py",
        "monitor/test_failure.py",
    ),
    # --- flows ------------------------------------------------------------------------------------------------------
    _of(
        "flows",
        "flows/integration/dormand_prince.py",
        "one size for all entries",
        "return float((self.error / scale).square().mean().sqrt())",
        "return float(self.error.norm() / scale.norm())",
        "flows/integration",
    ),
    _of(
        "flows",
        "flows/integration/adaptive.py",
        "a step grows at once after a rejection",
        "grow = min(1.0 if shrunk else 5.0, 0.9 * max(score, 1e-10) ** power)",
        "grow = min(5.0, 0.9 * max(score, 1e-10) ** power)",
        "flows/integration",
    ),
    _of(
        "flows",
        "flows/models/modified_flow.py",
        "the initial layer's shift is left out",
        "if self.momentum and self.shift_start and self.order > 1:",
        "if False:",
        "flows/models",
    ),
    _of(
        "flows",
        "flows/models/series.py",
        "trees without their symmetries",
        "* time_step ** (size(tree) - 1) / symmetry(tree)",
        "* time_step ** (size(tree) - 1)",
        "flows/models/test_series.py",
        "flows/models/test_orders.py",
    ),
    _of(
        "flows",
        "flows/models/stochastic.py",
        "noise without its mean taken off",
        "centred = (weights - weights.mean()) * self.scale",
        "centred = weights * self.scale",
        "flows/models/test_stochastic.py",
    ),
    _of(
        "flows",
        "flows/models/stochastic.py",
        "sampling without replacement",
        "share = 1.0 if self.replacement else (n - self.batch_size) / (n - 1)",
        "share = 1.0",
        "flows/models/test_stochastic.py",
    ),
    # --- experiments ------------------------------------------------------------------------------------------------
    _of(
        "experiments",
        "experiments/measuring/evaluation.py",
        "evaluated in training mode",
        "        model.eval()\n",
        "        pass\n",
        "experiments/measuring",
        "experiments/training/test_loop.py",
    ),
    _of(
        "experiments",
        "experiments/measuring/evaluation.py",
        "buffers move while it is evaluated",
        "    with left_as_found(model):\n        model.eval()",
        "    if True:\n        model.eval()",
        "experiments/measuring",
        "experiments/training/test_loop.py",
    ),
    _of(
        "experiments",
        "experiments/data/batches.py",
        "a rest of one example is a batch",
        "if examples - end < min(2, size):",
        "if examples - end < 1:",
        "experiments/data/test_batches.py",
    ),
    _of(
        "experiments",
        "experiments/training/schedule.py",
        "momentum that stays when the rate is halved",
        "return Hyper(rate / 2, (1 + beta) / 2, batch)",
        "return Hyper(rate / 2, beta, batch)",
        "experiments/training/test_schedule.py",
    ),
    _of(
        "experiments",
        "experiments/losses.py",
        "targets without their classes' number",
        "functional.one_hot(labels, logits.shape[-1])",
        "functional.one_hot(labels)",
        "experiments/training/test_loop.py",
        "experiments/measuring",
    ),
    # --- report and command line ------------------------------------------------------------------------------------
    _of(
        "report",
        "cli/inspect.py",
        "a failing check ends well",
        "    if not report.ok:\n        raise ValueError",
        "    if False:\n        raise ValueError",
        "cli",
    ),
    _of("report", "cli/inspect.py", "warnings of lint end well", "return 0 if report.ok else 1", "return 0", "cli"),
    _of(
        "report",
        "monitor/reading/errors.py",
        "the first record counts as a prediction",
        "_summary(errors[1:, chosen], known[1:, chosen])) is not None:\n                rows",
        "_summary(errors[:, chosen], known[:, chosen])) is not None:\n                rows",
        "monitor/reading/test_tables.py",
    ),
    _of(
        "report",
        "report/palette.py",
        "a flat line fills the picture",
        "pad = max(0.08 * (high - low), 0.02 * size)",
        "pad = 0.08 * (high - low)",
        "report",
    ),
    _of(
        "report",
        "report/page/render.py",
        "a script can end in a name",
        'return Markup(text.replace("<", "\\\\u003c"))',
        "return Markup(text)",
        "report/page",
    ),
)
