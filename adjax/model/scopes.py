"""Which machines one fit sees together, and whether they are enough for its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from adjax.detectors.kinds import kind_of
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import FitError, MachineId


def units_of(spec: DetectorSpec, machines: Sequence[MachineId]) -> list[MachineId]:
    """(n_machines,) whose model judges each machine: its own, or that of its type."""
    return [name if spec.per == "machine" else MachineId(name.machine_type) for name in machines]


def scopes_of(spec: DetectorSpec, models: Sequence[MachineId]) -> list[Any]:
    """(n_models,) what each model has in common with those that one fit sees together with it, and with no other."""
    scopes: dict[str, Callable[[MachineId], Any]] = {
        "machine": lambda model: model,
        "type": lambda model: model.machine_type,
        "all": lambda model: None,
    }
    return [scopes[kind_of(spec.kind).scope_of(spec.config)](model) for model in models]


def looks_beyond(spec: DetectorSpec) -> bool:
    """Whether a detector learns from machines of other types, too."""
    return kind_of(spec.kind).scope_of(spec.config) == "all"


def sees_enough(spec: DetectorSpec, machines: Sequence[MachineId]) -> bool:
    """Whether some fit of a detector sees as many machines as its kind needs."""
    counts = Counter(scopes_of(spec, list(dict.fromkeys(units_of(spec, machines)))))
    return max(counts.values(), default=0) >= kind_of(spec.kind).least_machines


def with_enough(
    spec: ModelSpec, machines: Sequence[Sequence[MachineId]]
) -> tuple[ModelSpec, list[int], list[str]]:
    """The specification without the detectors that see too few machines.

    Args:
        spec: of the model.
        machines: for each detector all that there are for it.

    Returns:
        What can be fitted, the places of its detectors in the one that was given, and a note on each that is left out.

    Raises:
        FitError: nothing is left.
    """
    chosen, notes = [], []
    for number, (own, names) in enumerate(zip(spec.detectors, machines, strict=True)):
        if sees_enough(own, names):
            chosen.append(number)
            continue
        least, one_type = kind_of(own.kind).least_machines, "" if looks_beyond(own) else " of one type"
        found = names[0].label if len(names) == 1 else f"{len(names)}"
        notes.append(
            f"the {own.kind} needs clips of at least {_in_words(least)} machines{one_type}, to tell them apart: here "
            f"{'is only' if len(names) == 1 else 'are, of any type,'} {found}"
        )
    if not chosen:
        raise FitError(
            f"{'; '.join(notes)}. Add normal clips of another machine, or take a model that needs no other"
        )
    notes = [f"{note}; it is left out of the model" for note in notes]
    return replace(spec, detectors=tuple(spec.detectors[i] for i in chosen)), chosen, notes


def _in_words(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))
