"""All of it in three functions: fit, score (of the model), load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adjax.data.recordings import group_clips
from adjax.model.fit import FALSE_ALARM_RATE, fit_model
from adjax.model.inputs import gather
from adjax.model.keep import load_model as load
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.spec import AUTO
from adjax.model.vectors import as_array, as_features, config_of, is_vectors

__all__ = ["fit", "load"]


def fit(
    what: Any,
    model: str = AUTO,
    *,
    machine: Any = None,
    settings: Mapping[str, Any] | None = None,
    sr: int | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    group: Any = None,
    cache: Path | None = None,
    **others: Any,
) -> Model:
    """Fit a model on normal recordings, sounds in memory, or vectors.

    A clip or machine that cannot be used is in `Model.record.failures`; the others go on.

    Args:
        what: a folder (see `index_folder`), files, a `ClipTable`; a list of (n_samples,) float arrays in [-1, 1]; or
            vectors, one row for each clip: an (n_clips, n_features) array, a table (CSV, NPZ, Parquet), or what
            `read_vectors` has read of one. Test clips among them are left alone.
        model: "auto", a kind of detector, a recipe ("autoencoder:2023"), or several ("auto+gmm").
        machine: whose clips these are, such as "pump" or "pump/left": a name, or one for each clip. None: what a
            folder's layout says, else one machine.
        settings: of the kinds, by name, such as {"n_components": 8}.
        sr: rate of arrays in Hz; None: that of the front end (16 kHz).
        false_alarm_rate: share of normal clips that may be called anomalous; it can be changed afterwards.
        group: (n_clips,) int, clips of one recording or session, or a regular expression that finds its name in a
            path. None: by folders and names, where those tell.
        cache: folder of features already computed, see `extract`.
        **others: fields of `ModelSpec` and `DetectorSpec`, see `make_spec`.

    Raises:
        SettingsError: settings or input that make no sense.
        DataError: there are no recordings, or a table cannot be used.
        FitError: not one machine can be fitted.
    """
    what = as_array(what)
    if is_vectors(what):
        what, machine = (
            as_features(what, machine, None),
            None,
        )  # rows that cannot be used have no name any more
        others.setdefault("features", config_of(what))
    spec = make_spec(model, settings=settings, **others)
    features, errors = gather(spec, what, machine=machine, sr=sr, cache=cache)
    if group is None or isinstance(group, str):
        group = group_clips(features[0].clips.clips, pattern=group).group
    fitted = fit_model(spec, features, group=group, false_alarm_rate=false_alarm_rate)
    record = replace(fitted.record, failures=(*errors, *fitted.record.failures))
    return replace(fitted, record=record)
