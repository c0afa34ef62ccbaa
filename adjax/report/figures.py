"""Figures of a run: what the machine sounds like, how the scores fall, how well they separate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jax import numpy as jnp
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import roc_curve

from adjax.data.audio import Channel, read_clip
from adjax.data.clips import Clip
from adjax.evaluation.metrics import MAX_FPR
from adjax.features.mel import hz_to_mel, log_mel_spectrogram
from adjax.features.recipes import FeatureConfig
from adjax.files import make_folder, whole_file
from adjax.model.leaning import Leaning
from adjax.model.result import Result

NORMAL, ANOMALOUS, UNKNOWN = "#2166ac", "#d6604d", "#777777"
LABELS = {0: ("normal", NORMAL), 1: ("anomalous", ANOMALOUS), -1: ("no label", UNKNOWN)}


def spectrograms(clips: Mapping[str, Clip], config: FeatureConfig, *, channel: Channel = 0) -> Figure:
    """Log-mel spectrograms side by side, on one colour scale.

    Args:
        clips: title -> clip.
        config: sampling rate, frames and bands.
        channel: of multi-channel clips.
    """
    figure = Figure(figsize=(5.5 * len(clips), 4.2), layout="constrained")
    axes = figure.subplots(1, len(clips), squeeze=False, sharey=True)[0]
    images = []
    for clip in clips.values():
        samples = jnp.asarray(read_clip(clip.path, sr=config.sr, channel=channel).samples)
        images.append(
            np.asarray(
                log_mel_spectrogram(
                    samples,
                    sr=config.sr,
                    n_fft=config.n_fft,
                    hop_length=config.hop_length,
                    n_mels=config.n_mels,
                )
            ).T
        )
    low, high = np.percentile(np.concatenate(images, axis=1), [1, 99.8])
    seconds = config.hop_length / config.sr
    for axis, title, image in zip(axes, clips, images, strict=True):
        drawn = axis.imshow(
            image, origin="lower", aspect="auto", extent=(0, image.shape[1] * seconds, 0, image.shape[0]),
            vmin=low, vmax=high, cmap="magma",
        )  # fmt: skip
        axis.set(title=plain(title), xlabel="time (s)")
    top = float(hz_to_mel(config.sr / 2))
    ticks = np.array([0, 500, 1000, 2000, 4000, 8000])
    ticks = ticks[ticks <= config.sr / 2]
    axes[0].set_yticks(hz_to_mel(ticks) / top * config.n_mels, [f"{tick:g}" for tick in ticks / 1000])
    axes[0].set_ylabel("frequency (kHz, mel scale)")
    figure.colorbar(drawn, ax=list(axes), label="dB")
    return figure


def score_histograms(
    result: Result, machine_type: str, thresholds: Mapping[str, float] | None = None
) -> Figure:
    """Scores of the test clips by label, a panel for each machine.

    Args:
        result: of the test clips, with or without labels.
        machine_type: whose.
        thresholds: of a machine's label: the score above which a clip is called anomalous; a line where it is given.
    """
    machines = [machine for machine in result.clips.machines if machine.machine_type == machine_type]
    figure = Figure(figsize=(3.6 * len(machines), 3.2), layout="constrained")
    axes = figure.subplots(1, len(machines), squeeze=False)[0]
    for axis, machine in zip(axes, machines, strict=True):
        clips, scores = result.of(*machine)
        limit = (thresholds or {}).get(machine.label)
        # A few scores far out would press all others into one bar: they go into the last one.
        low, high = np.min(scores), max(np.percentile(scores, 99), -np.inf if limit is None else limit)
        bins = np.linspace(low, max(high, low + 1e-9) * (1.02 if high > 0 else 1.0), 30)
        for label, (name, colour) in LABELS.items():
            own = np.clip(scores[clips.labels == label], bins[0], bins[-1])
            if len(own):
                axis.hist(own, bins.tolist(), alpha=0.6, label=name, color=colour)
        if limit is not None:
            axis.axvline(limit, color="0.2", linestyle="--", linewidth=1, label="threshold")
        axis.set(title=plain(machine.machine_id or machine_type), xlabel="anomaly score")
    axes[0].set_ylabel("test clips")
    axes[0].legend()
    return figure


def roc_curves(result: Result, machine_type: str) -> Figure:
    """Receiver operating characteristic, a line a machine; the region of pAUC is shaded."""
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axis = figure.subplots()
    axis.axvspan(0, MAX_FPR, color="0.93", label=f"region of pAUC (≤ {MAX_FPR})")
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="chance")
    for machine_id, metrics in result.metrics()[machine_type].items():
        clips, scores = result.of(machine_type, machine_id)
        known = clips.labels >= 0
        false_positive, true_positive, _ = roc_curve(clips.labels[known], scores[known])
        axis.plot(false_positive, true_positive, label=f"{plain(machine_id)}: AUC {metrics.auc:.3f}")
    axis.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axis.set_title(f"{plain(machine_type)}: ROC per machine")
    axis.legend(loc="lower right")
    return figure


def loss_curves(train: np.ndarray, validation: np.ndarray | None, titles: Sequence[str]) -> Figure:
    """Losses against epochs, a panel a group of lanes, a line a lane.

    Args:
        train: (n_epochs, n_lanes) mean training losses; a lane that stopped has NaN from there on.
        validation: (n_epochs, n_lanes); None: there were no validation clips.
        titles: (n_lanes,) which panel each lane belongs to.
    """
    panels = list(dict.fromkeys(titles))
    figure = Figure(figsize=(3.6 * len(panels) + 0.4, 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    epochs = np.arange(1, len(train) + 1)
    for axis, title in zip(axes, panels, strict=True):
        for lane in (i for i, own in enumerate(titles) if own == title):
            axis.plot(epochs, train[:, lane], color=NORMAL, linewidth=0.8, alpha=0.7)
            if validation is not None:
                axis.plot(epochs, validation[:, lane], color=ANOMALOUS, linewidth=0.8, alpha=0.7)
        axis.set(title=plain(title), xlabel="epoch", yscale="log")
    axes[0].set_ylabel("mean squared error")
    lines = {"training": Line2D([], [], color=NORMAL), "validation": Line2D([], [], color=ANOMALOUS)}
    shown = list(lines) if validation is not None else ["training"]
    axes[-1].legend([lines[name] for name in shown], shown)
    return figure


def leaning_bars(found: Sequence[Leaning], *, most: int = 10) -> Figure:
    """The bands or columns that each machine's score leans on most, a panel for each machine.

    Args:
        found: of some machines, at least one.
        most: bars of a panel.
    """
    figure = Figure(figsize=(5.0 * len(found), 0.28 * most + 1.2), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False, sharex=True)[0]
    for axis, own in zip(axes, found, strict=True):
        first = np.argsort(-own.shares, kind="stable")[:most]
        axis.barh(range(len(first)), own.shares[first], color=NORMAL)
        names = [plain(own.columns[i]) for i in first]
        axis.set_yticks(range(len(first)), [f"{name[:48]}…" if len(name) > 49 else name for name in names])
        axis.invert_yaxis()
        axis.set_title(plain(own.machine.label))
    figure.supxlabel("share of what moves the score", fontsize="medium")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all, and give its path back.

    Raises:
        StoreError: it cannot be written.
    """
    make_folder(path.parent)
    with whole_file(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(file, dpi=110, format="png")
    return path


def plain(text: str) -> str:
    """A name as a title: a dollar sign in it begins no formula."""
    return text.replace("$", r"\$")
