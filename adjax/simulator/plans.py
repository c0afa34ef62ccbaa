"""Which clips a synthetic data set holds: of one domain as in DCASE 2020, or of two as in 2022 and later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from adjax.checks import check_number, check_seed
from adjax.simulator.conditions import DOMAINS, Condition, Domain, make_conditions
from adjax.simulator.slide_rail_faults import FAULTS
from adjax.types import SettingsError

SEVERITIES = (0.3, 1.0)  # the anomalies' range


@dataclass(frozen=True)
class ClipCounts:
    """How many clips of one machine id.

    Attributes:
        train: normal training clips.
        test_normal: normal test clips.
        test_anomaly: anomalous test clips, the faults taken in turn.
    """

    train: int
    test_normal: int
    test_anomaly: int


@dataclass(frozen=True)
class DomainCounts:
    """How many clips of one section.

    Attributes:
        source_train: normal training clips of the source domain.
        target_train: those of the target domain.
        test_normal: normal test clips of each domain.
        test_anomaly: anomalous test clips of each domain, the faults taken in turn.
    """

    source_train: int
    target_train: int
    test_normal: int
    test_anomaly: int

    def train(self, domain: Domain) -> int:
        """Training clips of a domain."""
        return self.target_train if domain == "target" else self.source_train


FULL: Mapping[str, ClipCounts] = {  # the slide rails of DCASE 2020 Task 2, development set, ids of the study
    "id_00": ClipCounts(968, 100, 356),
    "id_02": ClipCounts(968, 100, 267),
    "id_04": ClipCounts(434, 100, 178),
}
SMALL: Mapping[str, ClipCounts] = {machine_id: ClipCounts(60, 45, 45) for machine_id in FULL}

SECTIONS = ("section_00", "section_01", "section_02")
FULL_DOMAINS: Mapping[str, DomainCounts] = {  # as in DCASE 2022 Task 2
    section: DomainCounts(990, 10, 50, 50) for section in SECTIONS
}
SMALL_DOMAINS: Mapping[str, DomainCounts] = {section: DomainCounts(60, 3, 15, 15) for section in SECTIONS}


@dataclass(frozen=True)
class ClipPlan:
    """One clip to be made.

    Attributes:
        machine_id: for example "id_00"; of a set with domains "section_00". The number is that of `make_machine`.
        split: "train" or "test".
        index: number within machine, domain, split and label.
        fault: one of `FAULTS`, or "" for a normal clip.
        severity: 0 for a normal clip.
        domain: "source", "target", or "" in a set without domains.
        condition: of the domain; None without domains.
    """

    machine_id: str
    split: Literal["train", "test"]
    index: int
    fault: str = ""
    severity: float = 0.0
    domain: Domain | Literal[""] = ""
    condition: Condition | None = None

    @property
    def name(self) -> str:
        """File name of DCASE 2020; with a domain that of 2021 and later."""
        label = "anomaly" if self.fault else "normal"
        if not self.domain:
            return f"{label}_{self.machine_id}_{self.index:08d}.wav"
        about = f"_{self.condition.attributes}" if self.condition else ""
        return f"{self.machine_id}_{self.domain}_{self.split}_{label}_{self.index:04d}{about}.wav"

    @property
    def stream(self) -> tuple[int, int, int]:
        """Which random numbers are the clip's: machine, group of clips, index."""
        group = {("train", False): 0, ("test", False): 1, ("test", True): 2}[self.split, bool(self.fault)]
        domain = ("", *DOMAINS).index(self.domain)
        return machine_number(self.machine_id), 3 * domain + group, self.index


def plan_clips(
    counts: Mapping[str, ClipCounts], *, seed: int = 0, severities: tuple[float, float] = SEVERITIES
) -> list[ClipPlan]:
    """List the clips of a data set: the faults in turn, severities drawn evenly from a range.

    Args:
        counts: by machine id, written "id_00".
        seed: of the severities.
        severities: lowest and highest, in [0, 1].

    Returns:
        Plans by machine: training, normal test, anomalous test.

    Raises:
        SettingsError: nothing asked for, a negative count, a machine id of another form, a bad range or seed.
    """
    _check(counts, seed, severities, "id")
    plans: list[ClipPlan] = []
    for machine_id, count in counts.items():
        rng = np.random.default_rng([seed, machine_number(machine_id)])
        plans += [ClipPlan(machine_id, "train", i) for i in range(count.train)]
        plans += [ClipPlan(machine_id, "test", i) for i in range(count.test_normal)]
        plans += [
            ClipPlan(machine_id, "test", i, *fault)
            for i, fault in enumerate(_faults(rng, count.test_anomaly, severities))
        ]
    return plans


def plan_domains(
    counts: Mapping[str, DomainCounts],
    *,
    shift: float = 1.0,
    seed: int = 0,
    severities: tuple[float, float] = SEVERITIES,
) -> list[ClipPlan]:
    """List the clips of a data set with a source and a target domain, each domain's conditions in turn.

    Args:
        counts: by section, written "section_00".
        shift: how far the target's conditions lie from the source's, in [0, 1]; see `make_conditions`.
        seed: of the severities, which are the same whatever the shift.
        severities: lowest and highest, in [0, 1].

    Returns:
        Plans by section and domain: training, normal test, anomalous test. Every fault meets every condition.

    Raises:
        SettingsError: as of `plan_clips`, or a shift out of range.
    """
    check_number("shift", shift, low=0, high=1)
    _check(counts, seed, severities, "section")
    plans: list[ClipPlan] = []
    for section, count in counts.items():
        number = machine_number(section)
        for domain in DOMAINS:
            conditions = make_conditions(number, domain, strength=shift)
            n = len(conditions)
            rng = np.random.default_rng([seed, number, DOMAINS.index(domain)])
            plans += [
                ClipPlan(section, "train", i, domain=domain, condition=conditions[i % n])
                for i in range(count.train(domain))
            ]
            plans += [
                ClipPlan(section, "test", i, domain=domain, condition=conditions[i % n])
                for i in range(count.test_normal)
            ]
            plans += [
                ClipPlan(section, "test", i, *fault, domain, conditions[i // len(FAULTS) % n])
                for i, fault in enumerate(_faults(rng, count.test_anomaly, severities))
            ]
    return plans


def machine_number(machine_id: str) -> int:
    """The number of "id_00" or "section_00".

    Raises:
        SettingsError: it is of another form.
    """
    prefix, _, number = machine_id.partition("_")
    if prefix not in ("id", "section") or not (number.isascii() and number.isdigit()):
        raise SettingsError(f"machine id {machine_id!r}: write it as id_00, or with domains as section_00")
    return int(number)


def _check(
    counts: Mapping[str, ClipCounts] | Mapping[str, DomainCounts],
    seed: int,
    severities: tuple[float, float],
    prefix: str,
) -> None:
    low, high = severities
    check_number("severities", high, low=0, high=1)
    check_number("severities", low, low=0, high=high)
    check_seed(seed)
    total = 0
    for machine_id, count in counts.items():
        machine_number(machine_id)
        if not machine_id.startswith(f"{prefix}_"):
            raise SettingsError(f"machine id {machine_id!r}: write it as {prefix}_00")
        for field in fields(count):
            value = getattr(count, field.name)
            check_number(f"{machine_id}: {field.name}", value, low=0, whole=True)
            total += value
    if not total:
        raise SettingsError(f"counts={dict(counts)} ask for no clip")


def _faults(rng: np.random.Generator, n: int, severities: tuple[float, float]) -> list[tuple[str, float]]:
    """Fault and severity of each of n anomalies."""
    drawn = rng.uniform(*severities, n)
    return [(FAULTS[i % len(FAULTS)], round(float(severity), 3)) for i, severity in enumerate(drawn)]
