"""What tests of several levels ask of what a model decided."""

import dataclasses

import numpy as np


def same(mine, its):
    """Two outcomes are equal, bit by bit."""
    for one, other in ((mine, its), (mine.kept, its.kept)):
        for field in dataclasses.fields(one):
            found, wanted = getattr(one, field.name), getattr(other, field.name)
            if isinstance(wanted, np.ndarray):
                np.testing.assert_array_equal(found, wanted, err_msg=field.name)
