"""Folds are contiguous, never part a recording, and depend on a machine's own clips alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from adjax.model.folds import fold_of_clips, held_out_split


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(2, 12))
def test_groups_are_whole_and_folds_contiguous(sizes: list[int], n_folds: int) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    fold = fold_of_clips(np.zeros(len(group), int), group, n_folds)
    for own in range(len(sizes)):
        assert len(np.unique(fold[group == own])) == 1
    assert (np.diff(fold) >= 0).all()
    assert_array_equal(np.unique(fold), np.arange(fold.max() + 1))
    assert fold.max() + 1 <= min(n_folds, len(sizes))


def test_clips_alone_fall_into_even_blocks() -> None:
    fold = fold_of_clips(np.zeros(100, int), np.arange(100), 10)
    assert_array_equal(np.bincount(fold), np.full(10, 10))
    assert_array_equal(fold_of_clips(np.zeros(4, int), np.arange(4), 10), np.arange(4))


def test_a_machines_folds_are_its_own() -> None:
    machine, group = np.repeat([0, 1], [7, 30]), np.arange(37)
    both = fold_of_clips(machine, group, 5)
    assert_array_equal(both[7:], fold_of_clips(machine[7:], group[7:], 5))


@pytest.mark.parametrize(("n", "held"), [(3, 2), (6, 2), (10, 2), (60, 12), (968, 194)])
def test_a_split_keeps_a_fifth_and_at_least_two(n: int, held: int) -> None:
    out = held_out_split(np.zeros(n, int), np.arange(n))
    assert abs(out.sum() - held) <= 2
    assert 2 <= out.sum() < n


def test_a_split_never_parts_a_recording() -> None:
    group = np.repeat(np.arange(6), 34)[:200]
    out = held_out_split(np.zeros(200, int), group)
    for own in range(6):
        assert len(np.unique(out[group == own])) == 1
