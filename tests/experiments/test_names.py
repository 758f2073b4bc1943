"""Every public name of the subpackage exists."""

from neuralmechanics import experiments


def test_every_public_name_loads():
    for name in experiments.__all__:
        assert getattr(experiments, name) is not None
