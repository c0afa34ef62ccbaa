"""One suite over all kinds: what every detector must do, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.detectors.kinds import KINDS
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.keep import load_model, save_model
from adjax.model.lanes import pad_rows
from adjax.model.lift import make_detector, members_of, window_starts
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.score import explain_clip, score_clip
from adjax.model.spec import ModelSpec
from adjax.model.spec_json import from_json, to_json
from adjax.types import NOT_FINITE, RowDetector, Training

FRAMES = FeatureConfig(n_fft=128, hop_length=64, n_mels=16)
SAMPLES = 64 * 23  # 24 frames
# What each kind is tried with; another kind is tried as it comes.
SETTINGS: dict[str, dict[str, Any]] = {
    "gmm": {"n_components": 2, "covariance_type": "diag", "reg_covar": 1e-2, "max_iter": 10},
    "autoencoder": {"n_context": 3, "hidden": (8,), "bottleneck": 2, "n_epochs": 2, "batch_size": 64},
    "network": {
        "n_samples": SAMPLES, "n_fft": 128, "hop_length": 64, "first_bin": 0, "width": 16, "kernels": (16, 8),
        "strides": (4, 4), "n_dense": 2, "n_pairs": 2, "n_centres": 2, "n_epochs": 2, "batch_size": 8,
    },
}  # fmt: skip


class Case(NamedTuple):
    """A kind with training clips of two machines, of two types."""

    spec: ModelSpec
    train: ClipFeatures
    model: Model


def clips_of(spec: ModelSpec, names: tuple[tuple[str, str], ...], seed: int = 0, n: int = 8) -> ClipFeatures:
    """Rows that fit the front end; a machine's rows depend on its name alone."""
    front_end = spec.front_ends[0]
    n_rows = 24 if front_end.pooling == "none" else 1
    clips, rows = [], []
    for name in names:
        rng = np.random.default_rng([seed, *"".join(name).encode()])
        centre = 5 * rng.normal(size=front_end.n_features)
        for i in range(n):
            clips.append(Clip(Path(f"{name[0]}/{name[1]}_{i:02d}.wav"), *name, split="train", label=0))
            rows.append(centre + rng.normal(size=(n_rows, front_end.n_features)))
    offsets = n_rows * np.arange(len(clips) + 1)
    return ClipFeatures(ClipTable(tuple(clips)), np.concatenate(rows).astype(np.float32), offsets)


MACHINES = (("fan", "id_00"), ("fan", "id_02"), ("pump", "id_00"))


@pytest.fixture(scope="module", params=list(KINDS))
def case(request: pytest.FixtureRequest) -> Case:
    name = request.param
    spec = make_spec(name, settings=SETTINGS.get(name, {}), features=FRAMES, n_folds=3)
    train = clips_of(spec, MACHINES)
    return Case(spec, train, fit_model(spec, train))


def training_of(features: ClipFeatures, *, padding: float | None = None) -> Training:
    """All machines as one `Training`, with rows of padding if asked for."""
    machines = features.clips.machines
    machine = np.array([machines.index(clip.machine) for clip in features.clips], np.int32)
    clip = np.repeat(np.arange(len(features.clips)), np.diff(features.offsets)).astype(np.int32)
    rows, weight = features.rows, np.ones(len(features.rows), np.float32)
    if padding is not None:
        rows = np.concatenate([rows, np.full((5, rows.shape[1]), padding, np.float32)])
        weight, clip = np.pad(weight, (0, 5)), np.pad(clip, (0, 5), mode="edge")
    seeds = np.array([name.seed for name in machines], np.uint32)
    members = members_of(np.where(weight > 0, machine[clip], -1), len(machines))
    return Training(*map(jnp.asarray, (rows, weight, clip, machine, np.zeros_like(machine), seeds, members)))


@pytest.fixture(scope="module")
def fitted(case: Case) -> tuple[Callable[..., Any], Any, Any]:
    """The pure fit, compiled once, its parameters and how it ended."""
    own = case.spec.detectors[0]
    detector = make_detector(own)
    traces: list[int] = []

    def fit(key: jax.Array, training: Training) -> Any:
        traces.append(1)
        return detector.fit(key, training, own.hyper)

    compiled = jax.jit(fit)
    params, info = compiled(jax.random.key(0), training_of(case.train, padding=0.0))
    again = clips_of(case.spec, MACHINES, seed=1)
    compiled(jax.random.key(1), training_of(again, padding=0.0))
    assert len(traces) == 1, "another trace for the same shapes"
    return compiled, params, info


def test_the_hosts_fit_is_the_pure_one(case: Case, fitted) -> None:
    """Lane = solo: what `fit_model` made of each machine, in threads or with others, is the pure fit of it alone."""
    _, _, info = fitted
    assert (np.asarray(info.status) != NOT_FINITE).all()
    own = case.spec.detectors[0]
    made = own.make()
    if not isinstance(made, RowDetector):
        # A training goes on by a rounding's luck: the model itself, which a split would leave clips out of.
        whole = replace(case.spec, calibration="none") if case.spec.calibration == "split" else case.spec
        found = fit_model(whole, case.train.where(lambda clip: clip.machine_type == "fan"))
        of_type = training_of(case.train.where(lambda clip: clip.machine_type == "fan"))
        expected, _ = jax.jit(make_detector(own).fit)(jax.random.key(0), of_type, own.hyper)
        found_params = found.params.detectors[0].params

        def check(a: np.ndarray, b: np.ndarray) -> None:  # the pure one has room for more clips of a machine
            assert_allclose(a, b[tuple(map(slice, a.shape))], rtol=1e-4, atol=1e-4)

        jax.tree.map(check, found_params, jax.tree.map(np.asarray, expected))
        return
    spec = replace(case.spec, calibration="none")
    found_params = fit_model(spec, case.train).params.detectors[0].params
    fit = jax.jit(made.fit)
    for number, name in enumerate(case.train.clips.machines):
        alone = case.train.where(lambda clip, name=name: clip.machine == name)
        clip = np.repeat(np.arange(len(alone.clips)), np.diff(alone.offsets))
        rows, weight = pad_rows(alone.rows, np.ones(len(alone.rows), np.float32))
        clip = np.pad(clip, (0, len(rows) - len(clip)), mode="edge")
        key = jax.random.fold_in(jax.random.key(0), np.uint32(name.seed))
        expected, _ = fit(key, rows, window_starts(clip, weight, made.n_context), own.hyper)
        for a, b in zip(jax.tree.leaves(found_params), jax.tree.leaves(expected), strict=True):
            assert_allclose(a[number], b, rtol=2e-3, atol=2e-3)


def test_padding_is_inert(case: Case, fitted) -> None:
    compiled, params, _ = fitted
    odd, _ = compiled(jax.random.key(0), training_of(case.train, padding=99.0))
    jax.tree.map(assert_array_equal, params, odd)
    own = case.spec.detectors[0]
    rows = jnp.asarray(case.train.rows[: case.train.offsets[1]])
    score = jax.jit(make_detector(own).score)
    weight = jnp.ones(len(rows))
    alone = score(params, 0, jnp.pad(rows, ((0, 4), (0, 0))), jnp.pad(weight, (0, 4)))
    padded = score(params, 0, jnp.pad(rows, ((0, 4), (0, 0)), constant_values=99.0), jnp.pad(weight, (0, 4)))
    assert_array_equal(alone, padded)


def test_jit_is_eager_and_vmap_is_one_by_one(case: Case, fitted) -> None:
    _, params, _ = fitted
    own = case.spec.detectors[0]
    detector = make_detector(own)
    n_rows = int(case.train.offsets[1])
    rows = jnp.asarray(case.train.rows[: 3 * n_rows]).reshape(3, n_rows, -1)
    weight = jnp.ones(n_rows)
    one = jax.jit(detector.score)(params, 1, rows[0], weight)
    assert_allclose(detector.score(params, jnp.asarray(1), rows[0], weight), one, rtol=1e-4, atol=1e-4)
    many = jax.jit(jax.vmap(detector.score, in_axes=(None, None, 0, None)))(
        params, jnp.asarray(1), rows, weight
    )
    assert_allclose(many[0], one, rtol=1e-4, atol=1e-4)
    assert many.shape == (3, len(detector.parts))


def test_a_clip_without_a_row_has_no_score(case: Case, fitted) -> None:
    _, params, _ = fitted
    own = case.spec.detectors[0]
    n_rows = int(case.train.offsets[1])
    nothing = jax.jit(make_detector(own).score)(
        params, 0, jnp.asarray(case.train.rows[:n_rows]), jnp.zeros(n_rows)
    )
    assert np.isnan(nothing).all()


def test_what_is_not_finite_gets_a_status(case: Case, fitted) -> None:
    compiled, _, _ = fitted
    training = training_of(case.train, padding=0.0)
    bad = training._replace(rows=training.rows.at[0].set(jnp.inf))
    _, info = compiled(jax.random.key(0), bad)
    assert np.asarray(info.status)[0] == NOT_FINITE


def test_a_kept_model_scores_the_same_bits(case: Case, tmp_path: Path) -> None:
    test = clips_of(case.spec, MACHINES, seed=0, n=3)
    before = case.model.score_features(test)
    save_model(case.model, tmp_path / "model")
    kept = load_model(tmp_path / "model")
    after = kept.score_features(test)
    assert_array_equal(before.scores, after.scores)
    assert_array_equal(before.p_values, after.p_values)
    assert kept.spec == case.spec == from_json(to_json(case.spec))
    assert kept.machines == case.model.machines
    one = kept.score_features(test.at([4]))  # in other company
    assert_array_equal(one.scores, before.scores[4:5])


def test_other_machines_change_nothing(case: Case) -> None:
    """Seeds follow names: dropping, adding or reordering machines that are not learnt from changes no score."""
    test = clips_of(case.spec, MACHINES[:2], seed=0, n=3)
    both = case.model.score_features(test)
    scope = KINDS[case.spec.detectors[0].kind].scope_of(case.spec.detectors[0].config)
    if scope == "machine":
        alone = fit_model(case.spec, clips_of(case.spec, MACHINES[1:2]))
        expected = both.of("fan", "id_02")[1]
    else:  # it learns from the others of its type, or from all
        alone = fit_model(case.spec, clips_of(case.spec, MACHINES[: 2 if scope == "type" else 3]))
        expected = both.scores
    if scope != "all":  # where every machine is one more to be told apart from
        assert_allclose(alone.score_features(test).scores, expected, rtol=1e-4, atol=1e-5)
    turned = fit_model(case.spec, clips_of(case.spec, MACHINES[::-1]))
    assert_array_equal(turned.score_features(test).scores, both.scores)


@pytest.fixture(scope="module")
def sound() -> jax.Array:
    return 0.1 * jax.random.normal(jax.random.key(3), (SAMPLES,))


def test_one_pure_function_from_samples_to_decision(case: Case, sound: jax.Array) -> None:
    """`score_clip` under jit, vmap and grad; padding behind the clip changes nothing that can be heard."""
    score = jax.jit(score_clip, static_argnums=0)
    params = jax.tree.map(jnp.asarray, case.model.params)
    padded = jnp.pad(sound, (0, 256), constant_values=0.7)
    one = score(case.spec, params, 1, padded, SAMPLES)
    assert np.isfinite(one.score)
    assert 0 < float(one.p_value) <= 1
    other = score(case.spec, params, 1, jnp.pad(sound, (0, 256)), SAMPLES)
    assert_allclose(one.score, other.score, rtol=1e-6)
    many = jax.vmap(lambda y: score(case.spec, params, 1, y, SAMPLES).score)(jnp.stack([padded, 2 * padded]))
    assert_allclose(many[0], one.score, rtol=1e-3, atol=1e-3)
    slope = jax.grad(lambda y: score(case.spec, params, 1, y, SAMPLES).score)(padded)
    assert np.isfinite(slope).all()
    assert_array_equal(slope[SAMPLES:], 0)
    parts = jax.jit(explain_clip, static_argnums=0)(case.spec, params, 1, padded, SAMPLES)
    waves = KINDS[case.spec.detectors[0].kind].rows == "samples"
    assert parts.shape[1] == (FRAMES.hop_length if waves else FRAMES.n_mels)
    assert_allclose(jnp.sum(parts), one.score, rtol=1e-3, atol=1e-3)
    assert_array_equal(parts[24:], 0)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_it_lowers_everywhere(case: Case, sound: jax.Array, platform: str) -> None:
    """The proof that it is pure: a program for another platform, made here, that asks nothing of this one."""
    params = jax.tree.map(jnp.asarray, case.model.params)
    exported = jax.export.export(
        jax.jit(lambda params, y, n: score_clip(case.spec, params, jnp.int32(0), y, n)), platforms=[platform]
    )(params, sound, jnp.int32(SAMPLES))
    text = exported.mlir_module()
    assert exported.platforms == (platform,)
    assert ("lapack" not in text) or platform == "cpu"
    # The spectrum of a whole clip is too long for a matrix of waves: an FFT everywhere.
    waves = KINDS[case.spec.detectors[0].kind].rows == "samples"
    assert ("stablehlo.fft" in text) == (platform != "tpu" or waves), (
        "the form of another platform is baked in"
    )
