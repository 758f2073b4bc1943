"""What a rewrite does to each tensor, as data: changes that can be applied, inverted, printed, one tensor at a time."""

from neuralmechanics.rewrite.plan.change import Change
from neuralmechanics.rewrite.plan.changes import AddImage, Centre, Copy, Fill, Mix, Multiply, Permute
from neuralmechanics.rewrite.plan.factor import Factor, Power
from neuralmechanics.rewrite.plan.place import Place
from neuralmechanics.rewrite.plan.plan import Plan

__all__ = [
    "AddImage",
    "Centre",
    "Change",
    "Copy",
    "Factor",
    "Fill",
    "Mix",
    "Multiply",
    "Permute",
    "Place",
    "Plan",
    "Power",
]
