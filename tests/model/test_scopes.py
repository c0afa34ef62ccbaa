"""Which machines one fit sees, and whether they are enough."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from adjax.model.lift import join_fits
from adjax.model.named import make_spec
from adjax.model.scopes import looks_beyond, sees_enough, units_of, with_enough
from adjax.types import FitError, MachineId, Shared, of_machines

FAN, OTHER, PUMP = MachineId("fan", "id_00"), MachineId("fan", "id_02"), MachineId("pump", "id_00")
IDENTITY, OF_TYPE = (make_spec("identity", contrast=own).detectors[0] for own in ("all", "type"))
GMM = make_spec("gmm").detectors[0]


def test_who_sees_whom() -> None:
    assert [looks_beyond(own) for own in (IDENTITY, OF_TYPE, GMM)] == [True, False, False]
    for machines, expected in (
        ((FAN,), (False, False, True)),
        ((FAN, PUMP), (True, False, True)),
        ((FAN, OTHER, PUMP), (True, True, True)),
        ((), (False, False, False)),
    ):
        assert tuple(sees_enough(own, machines) for own in (IDENTITY, OF_TYPE, GMM)) == expected


def test_models_of_types_count_as_one_each() -> None:
    whole = make_spec("identity", per="type").detectors[0]
    assert len(set(units_of(whole, (FAN, OTHER, PUMP)))) == 2
    assert not sees_enough(whole, (FAN, OTHER))
    assert sees_enough(whole, (FAN, PUMP))


def test_what_sees_too_few_is_left_out() -> None:
    spec = make_spec("identity+gmm")
    left, chosen, notes = with_enough(spec, [(FAN,), (FAN,)])
    assert (left.detectors, chosen) == (spec.detectors[1:], [1])
    assert notes[0].startswith("the identity needs clips of at least two machines")
    assert with_enough(spec, [(FAN, PUMP), (FAN,)]) == (spec, [0, 1], [])
    with pytest.raises(FitError, match="here is only fan id_00"):
        with_enough(make_spec("identity"), [(FAN,)])


def test_what_fits_share_is_kept_once_for_each_and_padded_to_the_largest() -> None:
    first = Shared(np.ones((1, 2, 3)), np.zeros(2, np.int32)), np.arange(2)
    second = Shared(np.full((1, 3, 3), 2.0), np.zeros(3, np.int32)), np.arange(3)
    common, own = join_fits([first, second])
    assert_array_equal(common.fit, [0, 0, 1, 1, 1])
    assert_array_equal(own, [0, 1, 0, 1, 2])
    assert_array_equal(common.of(1), [[1, 1, 1], [1, 1, 1], [0, 0, 0]])
    assert_array_equal(common.of(4), np.full((3, 3), 2))
    some, _ = of_machines((common, own), np.array([4, 0]))
    assert_array_equal(some.of(0), common.of(4))
    assert_array_equal(some.of(1), common.of(0))
