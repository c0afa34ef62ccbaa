"""What a machine that the source has not heard scores by every way of adapting to k of its clips.

Used by `experiments.adaptation`. Nothing here looks at a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.features.alignment import coral, mixup, shift, smote
from adjax.model.adapt import Adapted, calibration_of, left_out
from adjax.model.adapt_detector import Source, adapt_lanes, held_out_parts, play, source_of
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.roles import cast_roles
from adjax.model.score import DetectorParams, judge_clips, parts_of_clips
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import AdjaxError, MachineId

DEFAULT = "adapted (default)"
AS_IS = "as it is: the nearest machine"
KIND, OWN, SHIFTED, CORAL, MIXUP, SMOTE = "kind: ", "own clips: ", "shift: ", "CORAL: ", "mixup: ", "SMOTE: "
MAP, LEARNT = "MAP mixture", "learnt strengths: "
LEDOIT_WOLF = f"{OWN}Ledoit-Wolf"
N_SYNTHETIC = 64  # clips that mixup and SMOTE add


class Trial(NamedTuple):
    """One draw of k clips of one machine.

    Attributes:
        machine: the one left out.
        k: its clips that were heard.
        draw: number of the draw.
        scores: system -> (n_test,) scores of its test clips.
        p_values: (n_test,) of the default; NaN for k = 0.
    """

    machine: MachineId
    k: int
    draw: int
    scores: Mapping[str, np.ndarray]
    p_values: np.ndarray


class Bench(NamedTuple):
    """A source that has heard all machines but one, and that one's clips, for each detector.

    Attributes:
        machine: the one left out.
        model: of the others, by the default specification, calibrated.
        mixture: of the others, a mixture for each.
        train: clips of the one left out, of which k are drawn.
        test: its clips that judge.
    """

    machine: MachineId
    model: Model
    mixture: Model
    train: Sequence[ClipFeatures]
    test: Sequence[ClipFeatures]


def bench_of(
    spec: ModelSpec, mixture: ModelSpec, features: Sequence[ClipFeatures], machine: MachineId
) -> tuple[Bench, list[AdjaxError]]:
    """Leave one machine out; and what failed."""

    def part(split: str, own: bool) -> list[ClipFeatures]:
        return [
            each.where(lambda clip: clip.split == split and (clip.machine == machine) == own)
            for each in features
        ]

    source = part("train", own=False)
    model = fit_model(spec, source)
    alone = fit_model(mixture, source[:1])
    bench = Bench(machine, model, alone, part("train", own=True), part("test", own=True))
    return bench, [*model.record.failures, *alone.record.failures]


def mixture_spec(features: Any) -> ModelSpec:
    """Two Gaussians with variances alone, for each machine; settings fixed beforehand."""
    settings = {"n_components": 2, "covariance_type": "diag", "reg_covar": 1e-2}
    return make_spec("gmm", features=features, settings=settings, calibration="none")


def trials(bench: Bench, clips: Sequence[int], draws: int) -> Iterator[Trial]:
    """Every number of clips and draw; the same clips for all ways of adapting."""
    if 0 in clips:
        result = bench.model.score_features(bench.test, any_machine=True)
        yield Trial(bench.machine, 0, 0, {AS_IS: result.scores}, np.full(len(result.scores), np.nan))
    for k in clips:
        if 0 < k <= len(bench.train[0].clips):
            yield from _trials(bench, k, draws)


def _trials(bench: Bench, k: int, draws: int) -> Iterator[Trial]:
    n = len(bench.train[0].clips)
    drawn = [
        np.sort(np.random.default_rng([draw, bench.machine.seed]).permutation(n)[:k]) for draw in range(draws)
    ]
    pool = np.unique(np.concatenate(drawn)).tolist()
    new = [own.at(pool) for own in bench.train]
    heard = [np.isin(pool, own) for own in drawn]
    scores, p_values = _default(bench, new, heard, k)
    fixed, learnt = sources(bench), sources(bench, k)
    for number, own in enumerate(drawn):
        alone = [each.at(own.tolist()) for each in bench.train]
        found = {**scores[number], **_others(bench, fixed, learnt, alone, number)}
        yield Trial(bench.machine, k, number, found, p_values[number])


def _default(
    bench: Bench, new: Sequence[ClipFeatures], heard: Sequence[np.ndarray], k: int
) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    """The default and its kinds; draws, and what is left out in each for the calibration, are lanes."""
    model, spec = bench.model, bench.model.spec
    lanes, owner = [], []
    for draw, own in enumerate(heard):
        places = np.flatnonzero(own)
        folds = [np.isin(np.arange(len(own)), places[left]) for left in left_out(np.arange(k), spec.n_folds)]
        lanes += [~own | left for left in [*folds, np.zeros(len(own), bool)]]
        owner += [draw] * (len(folds) + 1)
    scores: list[dict[str, np.ndarray]] = [{} for _ in heard]
    adapted: list[list[Adapted]] = [[] for _ in heard]
    raw: list[list[np.ndarray]] = [[] for _ in heard]
    roles = cast_roles(model.memory, bench.machine, k, spec.seed)
    for source, features, test in zip(sources(bench), new, bench.test, strict=True):
        made, status = adapt_lanes(source, features, lanes)
        played = play(source, roles)
        for draw, own in enumerate(heard):
            mine = [i for i, one in enumerate(owner) if one == draw]
            left = [lanes[i] & own for i in mine]
            parts = held_out_parts(source, features, [made[i] for i in mine], left)[own]
            adapted[draw].append(Adapted(made[mine[-1]], parts, played, int(status[mine[-1]])))
            found = _parts(source.spec, made[mine[-1]], test)
            raw[draw].append(found)
            scores[draw][KIND + source.spec.kind] = found.max(axis=1)
    p_values = []
    for draw in range(len(heard)):
        rate = float(model.params.calibration.false_alarm_rate)
        calibration, _, _ = calibration_of(spec, adapted[draw], rate, bench.machine)
        parts = np.concatenate(raw[draw], axis=1)
        judged = judge_clips(calibration, spec.fusion, np.zeros(len(parts), np.int32), parts)
        scores[draw][DEFAULT] = np.asarray(judged.score, np.float64)
        p_values.append(np.asarray(judged.p_value, np.float64))
    return scores, p_values


def sources(bench: Bench, n_clips: int | None = None) -> list[Source]:
    """What each detector of the source has for the machine left out, with strengths learnt for so many clips."""
    model = bench.model
    return [
        source_of(number, own, model.spec.seed, params, model.machines, memory, bench.machine, n_clips)
        for number, (own, params, memory) in enumerate(
            zip(model.spec.detectors, model.params.detectors, model.memory, strict=True)
        )
    ]


def _parts(spec: DetectorSpec, params: DetectorParams, test: ClipFeatures) -> np.ndarray:
    return parts_of_clips(spec, params, 0, test.rows, test.offsets)


def _others(
    bench: Bench, fixed: Sequence[Source], learnt: Sequence[Source], own: Sequence[ClipFeatures], draw: int
) -> dict[str, np.ndarray]:
    """Ways that are not the default: of the kinds that take one vector of any numbers, and a mixture."""
    found: dict[str, np.ndarray] = {}
    for source, other, features, test in zip(fixed, learnt, own, bench.test, strict=True):
        if source.spec.kind not in ("joint", "neighbours"):
            continue
        silent = source._replace(lender=source.lender._replace(weight=np.zeros_like(source.lender.weight)))
        name = source.spec.kind
        ways = {
            OWN + name: (silent, features),
            MIXUP + name: (source, _more(features, "mixup", draw)),
            SMOTE + name: (source, _more(features, "smote", draw)),
        }
        if name == "joint":
            linear = source.spec.config.__class__("linear")
            plain = silent._replace(spec=replace(source.spec, config=linear))
            ways |= {
                LEARNT + name: (other, features),
                LEDOIT_WOLF: (plain, features),
                SHIFTED + name: (silent, _moved(source, features, "shift")),
                CORAL + name: (silent, _moved(source, features, "coral")),
            }
        for way, (lender, rows) in ways.items():
            made, _ = adapt_lanes(lender, rows, [np.zeros(len(rows.clips), bool)])
            parts = _parts(lender.spec, made[0], test)[:, 0]
            if (
                np.isfinite(parts).all() and np.ptp(parts) > 0
            ):  # one clip alone does not say how much a column moves
                found[way] = parts
    model = bench.mixture
    source = source_of(
        0,
        model.spec.detectors[0],
        0,
        model.params.detectors[0],
        model.machines,
        model.memory[0],
        bench.machine,
        None,
    )
    made, _ = adapt_lanes(source, own[0], [np.zeros(len(own[0].clips), bool)])
    parts = _parts(source.spec, made[0], bench.test[0])[:, 0]
    if np.isfinite(parts).all():
        found[MAP] = parts
    return found


def _more(features: ClipFeatures, how: str, draw: int) -> ClipFeatures:
    """The clips, and as many that lie between them."""
    rows = jnp.asarray(features.rows)
    key, weight = jax.random.key(draw), jnp.ones(len(rows))
    made = {"mixup": mixup, "smote": smote}[how](key, rows, weight, N_SYNTHETIC)
    return _with_rows(features, np.asarray(made))


def _moved(source: Source, features: ClipFeatures, how: str) -> ClipFeatures:
    """The clips, and those of the mates as if they were of this machine."""
    lender = source.lender
    real = lender.weight > 0
    arguments = (
        jnp.asarray(lender.rows[real]),
        jnp.ones(int(real.sum())),
        jnp.asarray(lender.machine[lender.clip[real]]),
        jnp.asarray(features.rows),
        jnp.ones(len(features.rows)),
    )
    made = {"shift": shift, "coral": coral}[how](*arguments, n_machines=len(source.mates))
    return _with_rows(features, np.asarray(made))


def _with_rows(features: ClipFeatures, rows: np.ndarray) -> ClipFeatures:
    first = features.clips[0]
    clips = [
        Clip(first.path.with_name(f"synthetic {i}"), *first.machine, split="train", label=0)
        for i in range(len(rows))
    ]
    more = ClipFeatures(ClipTable(tuple(clips)), rows.astype(np.float32), np.arange(len(rows) + 1))
    return features.followed_by(more)
