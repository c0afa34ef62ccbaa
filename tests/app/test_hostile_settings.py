"""Settings that make no sense, through every command: one line that names the setting, exit code 2, nothing read.

The data and the model named here do not exist, so a message about a setting came before anything was read.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from adjax.app.cli import CANNOT_RUN, main

HUGE = (str(2**64), str(2**70))
NO_NUMBER = ("nan", "inf", "-inf", "1e400", "")
FAR = (*NO_NUMBER, "-1", *HUGE)  # no count, no rate, no share


def lines(command: str, option: str, values: tuple[str, ...], *more: str) -> list[tuple[str, ...]]:
    return [(command, *more, option, value) for value in values]


def settings(command: str, model: str, name: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [(command, "--model", model, "--set", f"{name}={value}") for value in values]


COUNTS = {
    "gmm": ("n_components", "n_init", "n_kmeans_iter", "block_size", "max_iter"),
    "autoencoder": ("n_context", "bottleneck", "n_epochs", "batch_size", "n_domains", "block_size", "hidden"),
    "auto": ("averaged",),
}
AMOUNTS = {
    "gmm": ("reg_covar", "tol"),
    "autoencoder": ("learning_rate", "weight_decay", "noise", "ridge"),
}
WORDS = {
    "gmm": ("covariance_type", "scoring"),
    "autoencoder": ("constants", "predict", "residual", "denoising", "compute_dtype"),
    "auto": ("views", "smooth", "diagonal"),
}
HOSTILE = [
    # run, train
    *lines("run", "--seed", FAR),
    *lines("run", "--sr", (*FAR, "0")),
    *lines("run", "--n-mels", (*FAR, "0", "5000", "2147483647")),
    *lines("run", "--gwrp-r", (*FAR, "1.01")),
    *lines("run", "--score-percentile", (*FAR, "101")),
    *lines("run", "--score-percentile", ("nan",), "--model", "gmm", "--score-pooling", "percentile"),
    *lines("run", "--false-alarm-rate", (*FAR, "0", "1")),
    *lines("run", "--channel", FAR),
    *lines("run", "--group", ("[", "(")),
    ("run", "--model"),
    ("run", "--model", ""),
    ("run", "--model", "gmm+"),
    ("run", "--gwrp-r"),
    ("run", "--features"),
    ("run", "--n-mels"),
    ("run", "--set", "n_components"),
    ("run", "--set", ""),
    ("run", "--set", "=3"),
    *lines("train", "--seed", ("-1", *HUGE)),
    *lines("train", "--sr", ("0", "-1")),
    *lines("train", "--false-alarm-rate", ("nan", "0", "1", "-1")),
    *lines("train", "--group", ("[",)),
    *lines("train", "--n-mels", ("0", "5000")),
    ("train", "--model", ""),
    # the settings of every kind
    *(line for kind, own in COUNTS.items() for name in own for line in settings("run", kind, name, FAR)),
    *(
        line
        for kind, own in COUNTS.items()
        for name in own
        if name not in ("max_iter", "n_kmeans_iter")
        for line in settings("train", kind, name, ("0",))
    ),
    *(
        line
        for kind, own in AMOUNTS.items()
        for name in own
        for line in settings("run", kind, name, (*NO_NUMBER, "-1"))
    ),
    *(
        line
        for kind, own in WORDS.items()
        for name in own
        for line in settings("train", kind, name, ("", "x"))
    ),
    # sweep
    *lines("sweep", "--seed", FAR),
    *lines("sweep", "--seeds", (*FAR, "0", str(2**32), str(2**31 - 1))),
    *lines("sweep", "--sample", (*FAR, "0", "99999")),
    *lines("sweep", "--memory", ("nan", "inf", "-inf", "0", "-1", "1e400", "")),
    *lines("sweep", "--n-mels", (*FAR, "0", "5000")),
    *lines("sweep", "--gwrp-r", (*FAR, "1.01")),
    *lines("sweep", "--gwrp-r", ("nan",), "--clip-pooling", "mean"),
    ("sweep", "--gwrp-r"),
    ("sweep", "--n-mels"),
    ("sweep", "--features"),
    ("sweep", "--model"),
    ("sweep", "--model", ""),
    *settings("sweep", "gmm", "n_components", (*FAR, "0", "1,,2", "1,0")),
    *settings("sweep", "gmm", "reg_covar", (*NO_NUMBER, "-1", "1e-3,nan")),
    *settings("sweep", "gmm", "tol", ("nan", "-1")),
    *settings("sweep", "autoencoder", "bottleneck", (*FAR, "0")),
    *settings("sweep", "autoencoder", "learning_rate", (*NO_NUMBER, "-1")),
    # synth, score, info
    *lines("synth", "--snr-db", ("nan", "inf", "-inf", "1e400", "", "21", "-21")),
    *lines("synth", "--seed", FAR),
    *lines("score", "--false-alarm-rate", (*FAR, "0", "1")),
    *lines("info", "--false-alarm-rate", (*FAR, "0", "1")),
]


def complete(line: tuple[str, ...], folder: Path) -> list[str]:
    """What the command needs beside."""
    command, *words = line
    nowhere, out = str(folder / "nowhere"), ["--out", str(folder / "out")]
    own = {"synth": out, "score": [nowhere, nowhere], "info": [nowhere]}
    return [command, *own.get(command, ["--data", nowhere, *out]), *words]


def name_of(line: tuple[str, ...]) -> str:
    """The setting that a line is hostile in: that before the last value, or the last option if it has no value."""
    if "--set" in line:
        return line[-1].partition("=")[0]
    option = line[-1] if line[-1].startswith("--") else line[-2]
    return option.removeprefix("--").removeprefix("score-").replace("-", "_")


@pytest.mark.parametrize("line", HOSTILE, ids=" ".join)
def test_a_hostile_setting_is_one_line_and_exit_2(line: tuple[str, ...], tmp_path: Path, capfd) -> None:
    by_tyro = False
    try:
        code = main(complete(line, tmp_path))
    except SystemExit as error:  # what tyro cannot read
        by_tyro, code = True, error.code
    told = capfd.readouterr().err.strip()
    assert code == CANNOT_RUN
    assert "Traceback" not in told
    if not by_tyro:
        assert told.startswith("adjax: ")
        assert "\n" not in told
        assert name_of(line) in told
    assert "nowhere" not in told
    assert not (tmp_path / "out" / "slider").exists()
