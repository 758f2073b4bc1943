"""The forms that a symmetry of parameters can have, one a file, behind one interface."""

from neuralmechanics.symmetry.families.actions.action import FORMS, Action, Form
from neuralmechanics.symmetry.families.actions.affine_diagonal import AffineDiagonal, Origin
from neuralmechanics.symmetry.families.actions.affine_shift import AffineShift, AffineTerm, MapFactor
from neuralmechanics.symmetry.families.actions.bilinear import Bilinear, Entries
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeShare, ChargeTerms
from neuralmechanics.symmetry.families.actions.diagonal import Diagonal
from neuralmechanics.symmetry.families.actions.mixing.complex_pairs import ComplexPairs
from neuralmechanics.symmetry.families.actions.mixing.linear_blocks import BlockLabels, LinearBlocks
from neuralmechanics.symmetry.families.actions.mixing.rotation import Rotation
from neuralmechanics.symmetry.families.actions.mixing.shear import Shear, ShearTerm
from neuralmechanics.symmetry.families.actions.mixing.solved import Solved
from neuralmechanics.symmetry.families.actions.own import Field, Finite, Own
from neuralmechanics.symmetry.families.actions.plain_data import action_from_dict, action_to_dict
from neuralmechanics.symmetry.families.actions.shift import Shift
from neuralmechanics.symmetry.families.actions.terms.gain import Gain
from neuralmechanics.symmetry.families.actions.terms.gram_terms import GramTerm
from neuralmechanics.symmetry.families.actions.terms.rotation_terms import RotationTerm

__all__ = [
    "FORMS",
    "Action",
    "AffineDiagonal",
    "AffineShift",
    "AffineTerm",
    "Bilinear",
    "BlockLabels",
    "ChargeShare",
    "ChargeTerms",
    "ComplexPairs",
    "Diagonal",
    "Entries",
    "Field",
    "Finite",
    "Form",
    "Gain",
    "GramTerm",
    "LinearBlocks",
    "MapFactor",
    "Origin",
    "Own",
    "Rotation",
    "RotationTerm",
    "Shear",
    "ShearTerm",
    "Shift",
    "Solved",
    "action_from_dict",
    "action_to_dict",
]
