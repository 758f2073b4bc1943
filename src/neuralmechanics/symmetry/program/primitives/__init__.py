"""The primitives that a model is lowered to: a closed set of typed operations, in terms of which all symmetries stand.

Each primitive is a frozen dataclass of its settings. It knows the shape of its result, refuses operands that do not
fit, and names the method of an interpreter (``domain.Domain``) that handles it. Names of ATen do not occur.
"""

from neuralmechanics.symmetry.program.primitives.along_dimensions import (
    Contract,
    Deviation,
    Extremum,
    Normalise,
    Order,
    Pool,
    Positions,
    Reduce,
    Softmax,
)
from neuralmechanics.symmetry.program.primitives.elementwise import (
    Add,
    AddNumber,
    Exponential,
    Homogeneous,
    Logarithm,
    Mask,
    Maximum,
    Multiply,
    Noise,
    Nonlinear,
    Power,
    Restrict,
    Scale,
    Select,
)
from neuralmechanics.symmetry.program.primitives.ends import Ended, Fix, Forget, Pair
from neuralmechanics.symmetry.program.primitives.leaves import Constant, Parameter, Unread
from neuralmechanics.symmetry.program.primitives.movement import (
    Concatenate,
    Gather,
    Pad,
    Rearrange,
    Resize,
    Scatter,
    Spread,
)
from neuralmechanics.symmetry.program.primitives.primitive import Primitive

__all__ = [
    "Add",
    "AddNumber",
    "Concatenate",
    "Constant",
    "Contract",
    "Deviation",
    "Ended",
    "Exponential",
    "Extremum",
    "Fix",
    "Forget",
    "Gather",
    "Homogeneous",
    "Logarithm",
    "Mask",
    "Maximum",
    "Multiply",
    "Noise",
    "Nonlinear",
    "Normalise",
    "Order",
    "Pad",
    "Pair",
    "Parameter",
    "Pool",
    "Positions",
    "Power",
    "Primitive",
    "Rearrange",
    "Reduce",
    "Resize",
    "Restrict",
    "Scale",
    "Scatter",
    "Select",
    "Softmax",
    "Spread",
    "Unread",
]
