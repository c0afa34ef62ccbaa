"""The network: shapes, PyTorch's numbers, the loss, the order of clips, its references, training and going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.detectors.local_density import halved, nearness
from adjax.detectors.network import KIND, NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import Clips, finish
from adjax.detectors.network.loss import adacos_loss, log_probabilities, mix
from adjax.detectors.network.network import Weights, embed, embed_and_follow, init_weights
from adjax.detectors.network.training import Batch, init_state, plan_epoch, plan_step, train_step
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.fit_detector import Watch
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.types import FitError
from tests.detectors.frozen_network import CONFIG, FILE, N_MACHINES, batch, weights

SR, HOP = 4000, 64
WAVES = FeatureConfig(kind="samples", sr=SR, hop_length=HOP)
TINY = {
    "n_samples": 2048, "n_fft": 128, "hop_length": 64, "first_bin": 0, "width": 16, "kernels": (16, 8),
    "strides": (4, 4), "n_dense": 2, "n_pairs": 1, "n_centres": 2, "n_epochs": 6, "batch_size": 12,
}  # fmt: skip


def test_shapes_are_the_published_ones() -> None:
    config = NetworkConfig()
    assert config.spectrum_length == 6
    assert config.spectrogram_size == (313, 500)
    assert config.map_size == (76, 123)
    found = jax.eval_shape(lambda: init_weights(config, jax.random.key(0), jnp.float32))
    spectrum, spectrogram = found.params["spectrum"], found.params["spectrogram"]
    shapes = [spectrum["kernels"][i].shape for i in range(3)]
    assert shapes == [(256, 1, 128), (64, 128, 128), (16, 128, 128)]
    assert [spectrum["dense"][i].shape for i in range(6)] == [(768, 128), *[(128, 128)] * 5]
    channels = [spectrogram["blocks"][i]["second"].shape[-1] for i in range(8)]
    assert channels == [16, 16, 32, 32, 64, 64, 128, 128]
    assert spectrogram["dense"].shape == (16 * 128, 128)


def test_numbers_are_pytorchs_of_the_same_weights() -> None:
    expected = json.loads(FILE.read_text())
    own, centres = weights()
    waves, target = batch()
    mask = jnp.ones(len(waves))
    vectors, _ = jax.jit(embed_and_follow, static_argnums=0)(CONFIG, own, waves, mask)
    assert_allclose(vectors, expected["vectors"], rtol=1e-4, atol=1e-4)
    assert_allclose(log_probabilities(vectors, centres), expected["logits"], rtol=1e-4, atol=1e-4)
    assert_allclose(adacos_loss(vectors, centres, target, mask), expected["loss"], rtol=1e-4)


def test_gradients_and_a_step_are_pytorchs() -> None:
    """In float64, where no ReLU sits on another side of 0; padding of the batch is not there."""
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install --group peers)")
    from experiments.benchmarks._torch_network import Network, pairs, set_weights

    with jax.enable_x64(True):
        own, centres = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), weights())
        waves, target = (one.astype(np.float64) for one in batch())
        model = Network(CONFIG.n_samples, N_MACHINES, CONFIG.n_centres, CONFIG.width).double().train()
        set_weights(model, own.params, centres)
        loss = model.loss(*map(torch.from_numpy, (waves, target)))
        loss.backward()
        padded = np.concatenate([waves, 99 + waves[:1]])

        def loss_of(trained: Any) -> Any:
            current = Weights(trained[0], own.batch_stats)
            mask = jnp.array([1.0, 1, 1, 1, 0])
            vectors, stats = embed_and_follow(CONFIG, current, jnp.asarray(padded), mask)
            return adacos_loss(vectors, trained[1], np.pad(target, ((0, 1), (0, 0))), mask), stats

        trained = (own.params, centres)
        (found, stats), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(trained)
        assert_allclose(found, loss.item(), rtol=1e-10)
        for theirs, ours in pairs(model, *grads):
            assert_allclose(theirs.grad.numpy(), ours, rtol=1e-6, atol=1e-9)
        torch.optim.AdamW(model.parameters(), 1e-3).step()
        hyper = NetworkHyper()
        adamw = optax.adamw(hyper.learning_rate, weight_decay=hyper.weight_decay)
        updates, _ = adamw.update(grads, adamw.init(trained), trained)
        moved = optax.apply_updates(trained, updates)
        for theirs, ours in pairs(model, *moved):
            assert_allclose(theirs.detach().numpy(), ours, rtol=1e-4, atol=1e-6)
        judged = embed(CONFIG, Weights(own.params, stats), jnp.asarray(waves))
        set_weights(model, own.params, centres)
        for module in model.modules():  # that of the one batch, as ours began from ones
            if hasattr(module, "running_mean"):
                module.running_mean += 0.9
        assert_allclose(
            judged, model.eval().embed(torch.from_numpy(waves)).detach().numpy(), rtol=1e-6, atol=1e-8
        )


def test_the_loss_is_a_softmax_over_centres_summed_over_a_machines_own() -> None:
    rng = np.random.default_rng(0)
    vectors, centres = rng.normal(size=(5, 8)), rng.normal(size=(3, 4, 8))
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    logits = np.sqrt(2) * np.log(3 * 4 - 1) * (unit(vectors) @ unit(centres.reshape(12, 8)).T)
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = share.reshape(5, 3, 4).sum(2)
    found = log_probabilities(jnp.asarray(vectors, jnp.float32), jnp.asarray(centres, jnp.float32))
    assert_allclose(found, np.log(p), rtol=1e-4, atol=1e-5)
    target, mask = np.eye(3)[[0, 1, 2, 0, 1]], np.array([1.0, 1, 1, 0, 0])
    loss = adacos_loss(*map(jnp.float32, (vectors, centres, target, mask)))
    assert_allclose(loss, -np.log(p[np.arange(3), np.arange(3)]).mean(), rtol=1e-5)


def test_mixup_mixes_clips_of_the_batch_and_no_padding() -> None:
    waves, target = jnp.eye(6), jnp.eye(6)
    mask = jnp.array([1.0, 1, 1, 1, 0, 0])
    mixed, labels = jax.vmap(lambda key: mix(key, waves, target, mask, 0.5))(
        jax.random.split(jax.random.key(0), 200)
    )
    assert_array_equal(mixed, labels)
    assert_allclose(mixed.sum(2), 1, rtol=1e-5)
    real = np.asarray(mixed)[:, :4]
    assert not real[:, :, 4:].any()
    share = (np.diagonal(real, axis1=1, axis2=2) < 1).mean()
    assert 0.3 < share < 0.45  # half of the clips, of which a quarter meet themselves
    assert_array_equal(mix(jax.random.key(0), waves, target, mask, 0.0)[0], waves)


def test_an_epoch_takes_every_clip_once_in_even_batches_whatever_lies_between() -> None:
    config = NetworkConfig(batch_size=4)
    key, length = jax.random.key(3), jnp.full(15, config.n_samples + 100)
    taken = np.ones(15, bool)
    taken[[2, 7, 8, 11]] = False
    plan = plan_epoch(config, key, 1, jnp.asarray(taken))
    steps = [plan_step(config, plan, i, length, 4) for i in range(int(plan.n_steps))]
    chosen = [np.asarray(step.clip)[np.asarray(step.mask) > 0] for step in steps]
    assert [len(one) for one in chosen] == [3, 4, 4]  # and not 4, 4, 3 and, of 9 clips, 4, 4, 1
    assert_array_equal(np.sort(np.concatenate(chosen)), np.flatnonzero(taken))
    starts = np.concatenate([step.start for step in steps])
    assert starts.min() >= 0
    assert 50 < starts.max() <= 100
    alone = plan_epoch(config, key, 1, jnp.ones(11, bool))
    assert_array_equal(np.flatnonzero(taken)[np.asarray(alone.order)], np.asarray(plan.order)[:11])
    assert (np.asarray(plan_epoch(config, key, 2, jnp.asarray(taken)).order) != plan.order).any()


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_bank_is_the_formula(n: int) -> None:
    rng = np.random.default_rng(0)
    vectors, machine = rng.normal(size=(3 * n, 5)), np.arange(3 * n) % 2
    present = np.arange(3 * n) != 1
    order = np.argsort(machine, kind="stable")
    clips = Clips(*(jnp.asarray(own[order], jnp.int32) for own in (machine, present, machine)))
    params = finish(
        NetworkConfig(), 3 * n, None, jnp.asarray(vectors[order], jnp.float32), clips, jnp.arange(2)
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    x = rng.normal(size=5)
    for m in range(2):
        own = np.flatnonzero(present & (machine == m))
        if not len(own):
            continue
        among = (1 - unit[own] @ unit[own].T) / 2 + np.diag(np.full(len(own), np.inf))
        nearest = np.sort(among, axis=1)[:, : min(4, len(own) - 1)]
        spread = nearest.mean(axis=1) if len(own) > 1 else 1.0
        expected = ((1 - unit[own] @ (x / np.linalg.norm(x))) / 2 / spread).min()
        references = jax.tree.map(lambda leaf, m=m: leaf[m], params.references)
        placed = halved(jnp.asarray(x, jnp.float32)[None])[0]
        assert_allclose(nearness(references, placed, metric="cosine"), expected, rtol=1e-4)


def test_the_second_run_of_a_step_is_the_first() -> None:
    config = NetworkConfig(**TINY)
    seeds, hyper = jnp.array([3, 5], jnp.uint32), NetworkHyper()
    state = init_state(config, jax.random.key(0), seeds, hyper, jnp.float32)
    taken = Batch(jnp.arange(4), jnp.ones(4), jnp.zeros(4, jnp.int32), jax.random.key(1))
    waves = jax.random.normal(jax.random.key(2), (4, 2048))
    step = jax.jit(train_step, static_argnums=0)
    one, other = (step(config, state, hyper, waves, jnp.arange(4) % 2, taken) for _ in range(2))
    jax.tree.map(assert_array_equal, one, other)
    turned = init_state(config, jax.random.key(0), seeds[::-1], hyper, jnp.float32)
    assert_array_equal(turned.centres[::-1], state.centres)  # a machine's centres are drawn by its name


def tones(machines: dict[str, float], n: int, seconds: float = 0.5, seed: int = 0) -> ClipFeatures:
    """Clips of tones of the machines' own frequencies in Hz, in noise."""
    rng = np.random.default_rng(seed)
    clips, rows = [], []
    for name, hz in machines.items():
        for i in range(n):
            t = np.arange(HOP * int(seconds * SR / HOP)) / SR
            y = 0.1 * np.sin(2 * np.pi * (hz * t + rng.uniform())) + 0.02 * rng.normal(size=len(t))
            clips.append(Clip(Path(f"{name}_{i}.wav"), "fan", name, split="train", label=0))
            rows.append(y.reshape(-1, HOP).astype(np.float32))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in rows])])
    return ClipFeatures(ClipTable(tuple(clips)), np.concatenate(rows), offsets)


SPEC = make_spec("network", settings=TINY, features=WAVES)
TRAIN = tones({"id_00": 300.0, "id_02": 700.0}, 10)


@pytest.fixture(scope="module")
def model() -> Model:
    return fit_model(SPEC, TRAIN)


def test_an_odd_clip_scores_higher(model: Model) -> None:
    """Also of a clip shorter than the network hears, or longer."""
    for seconds in (0.3, 0.5, 0.9):
        normal = model.score_features(tones({"id_00": 300.0, "id_02": 700.0}, 4, seconds, seed=1)).scores
        odd = model.score_features(tones({"id_00": 1400.0, "id_02": 1400.0}, 4, seconds, seed=1)).scores
        assert normal.max() < odd.min()
    (first, *_) = model.record.fits
    assert first.n_steps == 6
    weight = model.params.detectors[0].params.references.weight
    assert weight.shape == (2, 10)
    assert (weight == 0).sum() == 4  # a fifth is kept out


def test_a_stopped_training_goes_on_to_the_same_bits(model: Model, tmp_path: Path) -> None:
    heard: list[float] = []

    def stop(n: int, loss: float) -> None:
        heard.append(loss)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_model(SPEC, TRAIN, checkpoints=tmp_path, watch=Watch(on_step=stop))
    again = fit_model(
        SPEC, TRAIN, checkpoints=tmp_path, watch=Watch(on_step=lambda n, loss: heard.append(loss))
    )
    jax.tree.map(assert_array_equal, again.params, model.params)
    assert heard[3:5] == heard[:2]  # what was made before is told again
    assert len(heard) == 9
    assert any("went on after epoch 2 of 6" in note for note in again.record.notes)


def test_a_lone_machine_has_nothing_to_be_told_apart_from() -> None:
    with pytest.raises(FitError, match="at least two machines"):
        fit_model(SPEC, TRAIN.where(lambda clip: clip.machine_id == "id_00"))


def test_waves_are_trained_on_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full size they are 1.5 GB: no second copy."""
    seen: list[np.ndarray] = []

    def fit_all(config: Any, keys: Any, training: Any, *rest: Any) -> Any:
        seen.append(training.rows)
        raise FitError("seen")

    monkeypatch.setattr("adjax.model.lanes.kind_of", lambda name: KIND._replace(fit_all=fit_all))
    with pytest.raises(FitError, match="seen"):
        fit_model(SPEC, TRAIN)
    assert np.shares_memory(seen[0], TRAIN.rows)
