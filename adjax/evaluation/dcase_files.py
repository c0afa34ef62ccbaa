"""The files of a DCASE Task 2 submission: scores per machine and the table of results.

Formats: y-kawagu/dcase2020_task2_baseline. `anomaly_score_<type>_<id>.csv` has rows `file,score` without a header;
`result.csv` has, for each machine type, its name, the header `id,AUC,pAUC`, a row an id, and `Average`. Types with
domains have the table of Kota-Dohi/dcase2022_task2_baseline_ae, without precision, recall and F1 score.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from adjax.evaluation.metrics import DomainMetrics, Metrics, arithmetic_mean, domain_means, harmonic_mean
from adjax.files import file_name, whole_file
from adjax.types import DataError


def score_file_name(machine_type: str, machine_id: str) -> str:
    """`anomaly_score_slider_id_00.csv`; 2021 and later `anomaly_score_slider_section_00_test.csv`."""
    suffix = "_test" if machine_id.startswith("section") else ""
    return file_name(f"anomaly_score_{machine_type}_{machine_id}{suffix}.csv")


def write_scores(path: Path, names: Iterable[str], scores: Iterable[float]) -> None:
    """Write `file,score` rows, whole or not at all; floats keep all their digits."""
    _write_rows(path, ([name, repr(float(score))] for name, score in zip(names, scores, strict=True)))


def read_scores(path: Path) -> dict[str, float]:
    """Read `file,score` rows.

    Raises:
        DataError: the file is missing, a row is not `file,score` with a finite score, or a name comes twice.
    """
    scores: dict[str, float] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                try:
                    name, value = row[0], float(row[1])
                except (IndexError, ValueError):
                    raise DataError(f"{path}, line {number}: expected `file,score`, found {row}") from None
                if not math.isfinite(value) or name in scores or len(row) != 2:
                    raise DataError(f"{path}, line {number}: {name} needs one row with one finite score")
                scores[name] = value
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return scores


def write_results(
    path: Path,
    results: Mapping[str, Mapping[str, Metrics]],
    domains: Mapping[str, Mapping[str, DomainMetrics]] | None = None,
) -> None:
    """Write `result.csv`.

    Args:
        path: of the file.
        results: machine type -> machine id -> metrics.
        domains: the same by domain, for the types that have them; they get DCASE 2022's table in place of 2020's, and
            at the end the means over all of them.
    """
    domains = domains or {}
    rows: list[list[str]] = []
    for machine_type, by_id in results.items():
        rows.append([machine_type])
        if machine_type in domains:
            by_section = domains[machine_type]
            rows.append(["section", *_DOMAIN_COLUMNS])
            rows += [[_number(name), *_cells(m)] for name, m in sorted(by_section.items())]
            rows += [*_means(by_section.values()), []]
            continue
        rows.append(["id", "AUC", "pAUC"])
        rows += [[_number(name), repr(m.auc), repr(m.pauc)] for name, m in sorted(by_id.items())]
        mean = arithmetic_mean(by_id.values())
        rows += [["Average", repr(mean.auc), repr(mean.pauc)], []]
    if domains:
        all_sections = [m for by_section in domains.values() for m in by_section.values()]
        means = _means(all_sections, " over all machine types, sections, and domains")
        rows += [["", *_DOMAIN_COLUMNS], *means, []]
    _write_rows(path, rows)


_DOMAIN_COLUMNS = ("AUC (source)", "AUC (target)", "pAUC")


def _cells(metrics: DomainMetrics) -> list[str]:
    return [repr(metrics.source.auc), repr(metrics.target.auc), repr(metrics.both.pauc)]


def _means(metrics: Iterable[DomainMetrics], over: str = "") -> list[list[str]]:
    rows = list(metrics)
    kinds = {"arithmetic mean": arithmetic_mean, "harmonic mean": harmonic_mean}
    return [[f"{name}{over}", *_cells(domain_means(rows, mean))] for name, mean in kinds.items()]


def _number(machine_id: str) -> str:
    """The baseline writes `00` for `id_00`."""
    return machine_id.rsplit("_", 1)[-1]


def _write_rows(path: Path, rows: Iterable[list[str]]) -> None:
    with whole_file(path) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
