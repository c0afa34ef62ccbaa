"""`--vectors TABLE` in every command: the same folder of results as of recordings, without sound."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import adjax
from adjax.app.cli import ANOMALY, CANNOT_RUN, OK, SOME_FAILED, main
from adjax.model.vectors import split_vectors
from adjax.report.folder import COLUMNS

GMM = ["--model", "gmm", "--set", "n_components=1", "covariance_type=diag"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines() -> list[str]:
    rng = np.random.default_rng(0)
    found = ["file,machine_type,machine_id,split,label,domain,a,b,c"]
    for machine in ("id_00", "id_02"):
        for i in range(32):
            label = int(i >= 20 and i % 2)
            split = "train" if i < 20 else ("source_test", "test")[i % 4 // 2]
            numbers = ",".join(f"{value:.4f}" for value in rng.normal(size=3) + 8 * label)
            found.append(f"./{machine}/{31 - i}.wav,pump,{machine},{split},{label},,{numbers}")
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    path.write_text("\n".join(lines()))
    return path


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a bad training and a bad test row."""
    found = lines()
    found[3] = found[3].replace(",pump", ",pump,")
    found[30] = found[30].rpartition(",")[0] + ","
    path = tmp_path_factory.mktemp("tables") / "bad.csv"
    path.write_text("\n".join(found))
    return path


@pytest.fixture(scope="module")
def model(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "m"
    assert main(["train", "--vectors", str(table), "--out", str(folder), *GMM]) == OK
    return folder


def test_run_gives_the_folder_of_a_run_on_recordings(table: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", "--vectors", str(table), "--out", str(tmp_path), *GMM]) == OK
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files >= {
        "SHA256SUMS", "scores.csv", "result.csv", "settings.json", "report.json", "anomaly_score_pump_id_00.csv",
        "anomaly_score_pump_id_02.csv", "figures/pump_scores.png", "figures/pump_roc.png",
    }  # fmt: skip
    assert not {"figures/pump_spectrograms.png", "failures.csv"} & files
    rows = rows_of(tmp_path / "scores.csv")
    assert tuple(rows[0]) == COLUMNS
    # In the order of the table, as written there.
    assert [row["file"] for row in rows] == [
        f"./{m}/{31 - i}.wav" for m in ("id_00", "id_02") for i in range(20, 32)
    ]
    features = adjax.read_vectors(table)
    settings = {"n_components": 1, "covariance_type": "diag"}
    expected = adjax.fit(features, "gmm", settings=settings).score(split_vectors(features)[1])
    assert [float(row["score"]) for row in rows] == expected.scores.tolist()
    assert [row["decision"] for row in rows] == list(expected.verdicts)
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["data"] == {"kind": "vectors", "table": str(table), "train_clips": 40, "test_clips": 24}
    own = written["model"]["detectors"][0]
    assert (own["features"]["columns"], own["standardize"]) == (["a", "b", "c"], True)
    printed = capsys.readouterr().out
    assert "pump id_00: 20 training clips, 12 test clips (6 normal, 6 anomalous)\n" in printed
    assert "1.0000" in printed


def test_several_models_share_a_table_and_bad_rows_are_listed(bad: Path, tmp_path: Path, capsys) -> None:
    command = [
        "run",
        "--vectors",
        str(bad),
        "--out",
        str(tmp_path),
        *GMM,
        "--model",
        "auto",
        "gmm",
        "auto+gmm",
    ]
    assert main(command) == SOME_FAILED
    printed = capsys.readouterr().out
    for name in ("auto", "gmm", "auto+gmm"):
        reasons = [row["reason"] for row in rows_of(tmp_path / name / "failures.csv")]
        assert reasons == [
            "row 4 of bad.csv: 10 cells, but row 1 has 9: correct the row",
            "row 31 of bad.csv: column 'c' is empty: give a finite number, or leave the row out",
        ]
        assert len(rows_of(tmp_path / name / "scores.csv")) == 23
    assert all(reason in printed for reason in reasons)


def test_labels_and_a_machine_type_apply_to_tables(table: Path, tmp_path: Path) -> None:
    text = [line.replace(",1,,", ",,,").replace(",0,,", ",,,") for line in lines()]
    text.append("x.wav,fan,,train,0,,1,2,3")
    (tmp_path / "t.csv").write_text("\n".join(text))
    labels = [f"{row.split(',')[0]},{row.split(',')[4]}" for row in lines()[1:] if "test" in row]
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    out = tmp_path / "out"
    command = ["run", "--vectors", str(tmp_path / "t.csv"), "--out", str(out), *GMM, "--machine-type", "pump"]
    assert main([*command, "--labels", str(tmp_path / "labels.csv")]) == OK
    assert (out / "result.csv").read_text().splitlines()[:3] == ["pump", "id,AUC,pAUC", "00,1.0,1.0"]


def test_normal_rows_alone_are_held_out_in_part(tmp_path: Path, capsys) -> None:
    rows = "\n".join(
        f"{i}.wav,{value:.4f}" for i, value in enumerate(np.random.default_rng(0).normal(size=30))
    )
    (tmp_path / "t.csv").write_text("file,x\n" + rows)
    assert main(["run", "--vectors", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *GMM]) == OK
    assert len(rows_of(tmp_path / "out/scores.csv")) == 6
    assert "no column 'split', so all rows are taken for normal training rows" in capsys.readouterr().out


def test_a_kept_model_scores_a_table_as_in_memory(table: Path, model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), "--vectors", str(table), "--out", str(out)]) == OK
    rows = rows_of(out)
    assert [row["file"] for row in rows] == [line.split(",")[0] for line in lines()[1:]]  # all of them
    expected = adjax.load(model).score(table)
    assert [float(row["p_value"]) for row in rows] == expected.p_values.tolist()
    assert main(["score", str(model), "--vectors", str(table), "--fail-on-anomaly"]) == ANOMALY
    capsys.readouterr()
    assert main(["info", str(model)]) == OK
    assert "3 columns of vectors: a, b, c" in capsys.readouterr().out
    assert "3 columns of vectors: a, b, c" in (model / "README.md").read_text()
    nameless = tmp_path / "nameless.csv"
    nameless.write_text("file,c,b,a\nx.wav,0,0,9\n")
    assert (
        main(["score", str(model), "--vectors", str(nameless), "--machine", "id_02", "--out", str(out)]) == OK
    )
    assert [(row["machine_id"], row["decision"]) for row in rows_of(out)] == [("id_02", "anomalous")]


def test_bad_rows_of_training_and_scoring_are_listed_and_told_by_the_exit_code(
    bad: Path, model: Path, tmp_path: Path, capsys
) -> None:
    assert main(["train", "--vectors", str(bad), "--out", str(tmp_path / "m"), *GMM]) == SOME_FAILED
    printed = capsys.readouterr().out
    assert printed.count("row 4 of bad.csv: 10 cells") == 1
    assert "--vectors TABLE" in printed
    assert adjax.load(tmp_path / "m").record.n_clips == {"pump id_00": 19, "pump id_02": 20}
    out = tmp_path / "s.csv"
    assert main(["score", str(model), "--vectors", str(bad), "--out", str(out)]) == SOME_FAILED
    assert (len(rows_of(out)), len(rows_of(tmp_path / "s_failures.csv"))) == (62, 2)


def test_sweep_takes_a_table(bad: Path, tmp_path: Path, capsys) -> None:
    command = [
        "sweep",
        "--vectors",
        str(bad),
        "--out",
        str(tmp_path),
        "--set",
        "n_components=1,2",
        "covariance_type=diag",
    ]
    assert main(command) == SOME_FAILED
    rows = rows_of(tmp_path / "trials.csv")
    assert [(row["machine_id"], row["config.n_components"]) for row in rows] == [
        ("id_00", "1"), ("id_00", "2"), ("id_02", "1"), ("id_02", "2"),
    ]  # fmt: skip
    assert all(row["auc"] == "1.0" for row in rows)
    assert not [name for name in rows[0] if name.startswith("features.")]
    assert len(rows_of(tmp_path / "failures.csv")) == 2
    assert (tmp_path / "figures" / "heat_map.png").stat().st_size > 1000
    assert main(command) == SOME_FAILED
    assert "4 of 4 trials were there already" in capsys.readouterr().out


OF_ALL = [
    ("data", "folder"),
    ("features", "mfcc"),
    ("n-mels", "64"),
    ("clip-pooling", "mean"),
    ("gwrp-r", "0.9"),
]
OF_SOME = [("sr", "8000"), ("channel", "1"), ("floor", "max")]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *[(command, *own) for command in ("run", "train", "sweep") for own in OF_ALL],
        *[(command, *own) for command in ("run", "train") for own in OF_SOME],
        ("run", "snr-db", "0"),
    ],
)
def test_settings_of_recordings_are_refused_before_anything_is_read(
    command: str, option: str, value: str, tmp_path: Path, capsys
) -> None:
    out = ["--vectors", "nowhere.csv", "--out", str(tmp_path / "out")]
    assert main([command, *out, f"--{option}", value]) == CANNOT_RUN
    told = capsys.readouterr().err
    assert "vectors" in told
    assert option.replace("-", "_") in told
    assert "nowhere" not in told


@pytest.mark.parametrize("command", ["run", "train", "sweep"])
def test_settings_of_models_are_checked_before_the_table_is_read(
    command: str, tmp_path: Path, capsys
) -> None:
    out = ["--vectors", "nowhere.csv", "--out", str(tmp_path / "out")]
    assert main([command, *out, "--model", "gmm", "--set", "n_components=0"]) == CANNOT_RUN
    assert "n_components" in capsys.readouterr().err
    assert main([command, *out]) == CANNOT_RUN
    assert "nowhere.csv: cannot be read as a table of vectors (No such file" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.csv"))


def test_recordings_and_tables_do_not_mix_and_none_is_no_sweep(
    model: Path, table: Path, tree: Path, tmp_path: Path, capsys
) -> None:
    assert main(["score", str(model), "x.wav", "--vectors", str(table)]) == CANNOT_RUN
    assert "files and vectors: give recordings or a table, not both" in capsys.readouterr().err
    assert main(["score", str(model), str(tree)]) == CANNOT_RUN
    assert "this model takes vectors from elsewhere" in capsys.readouterr().err
    assert main(["score", str(model)]) == CANNOT_RUN
    assert "--vectors TABLE" in capsys.readouterr().err
    assert main(["sweep", "--out", str(tmp_path)]) == CANNOT_RUN
    assert "give --data FOLDER, or --vectors TABLE" in capsys.readouterr().err
    sound = tmp_path / "sound"
    assert (
        main(
            [
                "train",
                "--data",
                str(tree),
                "--out",
                str(sound),
                *GMM,
                "--n-mels",
                "3",
                "--clip-pooling",
                "mean",
            ]
        )
        == OK
    )
    capsys.readouterr()
    assert main(["score", str(sound), "--vectors", str(table)]) == CANNOT_RUN
    assert "the gmm takes recordings, not vectors from elsewhere" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("file,machine_type,machine_id,a,b\nx,pump,id_00,1,2\n")
    assert main(["score", str(model), "--vectors", str(tmp_path / "other.csv")]) == CANNOT_RUN
    assert "'c' missing" in capsys.readouterr().err


def test_a_group_holds_rows_out_together(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    pattern = ["--group", r"/(\d)\d*\.wav"]
    assert main(["train", "--vectors", str(table), "--out", str(folder), *GMM, *pattern]) == OK
    assert "pattern" in adjax.load(folder).record.about["recordings"]
