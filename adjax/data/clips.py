"""Clips and tables of clips: what the name and the folder of each file say, and the labels that come from elsewhere."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from adjax.files import read_text
from adjax.types import ClipError, DataError, MachineId, readable

Split = Literal["train", "test", ""]
# Heads of columns, as people write them.
_NAME_WORDS = {
    "file",
    "files",
    "filename",
    "file name",
    "file_name",
    "name",
    "clip",
    "path",
    "test name",
    "test_name",
}
_LABEL_WORDS = {
    "label",
    "labels",
    "class",
    "target",
    "anomaly",
    "is_anomaly",
    "condition",
    "ground_truth",
    "y",
}
UNKNOWN = -1  # in `ClipTable.labels`


@dataclass(frozen=True)
class Clip:
    """One clip: its file and what its name and folder say.

    Attributes:
        path: the file, as reached from the indexed folder.
        machine_type: for example "slider"; a slide rail is "slider" whatever its folder calls it.
        machine_id: as written in the name, "id_00" or "section_00"; else the folder of the machine, such as
            "hall 3/pump 2"; "" where a machine type is one machine.
        domain: "source", "target" or "" (not said).
        split: "train" or "test"; "" for a clip that belongs to neither.
        label: 0 normal, 1 anomaly, None unknown.
        attributes: the rest of a 2021+ name, for example "vel_6"; otherwise "".
        key: its name among the clips of its machine and split, where that is not the file's own: the path below
            the machine's folder, for example "2024-05-01/rec 3.wav".
        row: its row in a table of vectors, whose rows come in recording order; None: it is a file of its own.
    """

    path: Path
    machine_type: str = ""
    machine_id: str = ""
    domain: str = ""
    split: Split = ""
    label: int | None = None
    attributes: str = ""
    key: str = ""
    row: int | None = None

    @property
    def machine(self) -> MachineId:
        """Whose clip it is."""
        return MachineId(self.machine_type, self.machine_id)

    @property
    def name(self) -> str:
        """What tells it apart from the other clips of its machine and split: the key of score and label files.

        The file's name as far as that suffices. For raw MIMII, where those repeat, as DCASE 2020 has it:
        normal_id_00_00000000.wav. Below a machine's folder it is the path from there, with "/".
        """
        if self.key:
            return self.key
        own = readable(self.path.name)
        if self.machine_id in own:
            return own
        return f"{'anomaly' if self.label else 'normal'}_{self.machine_id}_{own}"


@dataclass(frozen=True)
class ClipTable:
    """Clips in a fixed order: the row order of everything computed from them.

    Attributes:
        clips: the rows.
        rejected: files under the indexed folder whose name fits no layout, one error each. They belong to the
            whole index: `select` leaves them behind.
        notes: what the index took for granted, in sentences for people; `select` leaves them behind, too.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[ClipError, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __getitem__(self, row: int) -> Clip:
        return self.clips[row]

    @property
    def machines(self) -> tuple[MachineId, ...]:
        """The machines, sorted, each once."""
        return tuple(sorted({clip.machine for clip in self.clips}))

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, sorted, each once."""
        return tuple(sorted({clip.machine_type for clip in self.clips}))

    @property
    def machine_ids(self) -> tuple[str, ...]:
        """The machine ids (sections), sorted, each once."""
        return tuple(sorted({clip.machine_id for clip in self.clips}))

    @property
    def names(self) -> tuple[str, ...]:
        """`Clip.name` of every row."""
        return tuple(clip.name for clip in self.clips)

    @property
    def labels(self) -> np.ndarray:
        """(n_clips,) int64: 0 normal, 1 anomaly, `UNKNOWN` (-1) where nobody has said."""
        return np.array([UNKNOWN if clip.label is None else clip.label for clip in self.clips], np.int64)

    def select(
        self,
        *,
        machine_type: str | None = None,
        machine_id: str | None = None,
        split: Split | None = None,
    ) -> ClipTable:
        """The rows that agree with everything given, in the same order; an empty table when none does."""
        wanted = {"machine_type": machine_type, "machine_id": machine_id, "split": split}
        wanted = {field: value for field, value in wanted.items() if value is not None}
        return ClipTable(
            tuple(clip for clip in self.clips if all(getattr(clip, f) == v for f, v in wanted.items()))
        )

    def of_machine(self, machine: MachineId) -> ClipTable:
        """The rows of one machine."""
        return self.select(machine_type=machine.machine_type, machine_id=machine.machine_id)

    def with_labels(self, labels: Mapping[str, int]) -> ClipTable:
        """Attach labels to test clips, such as those published after a challenge.

        Args:
            labels: from `Clip.name` to 0 (normal) or 1 (anomaly). Test clips not named keep what they have.

        Raises:
            DataError: a name that no test clip has, or several have; a label that is not 0 or 1, or that
                contradicts the clip's own.
        """
        rows: dict[str, int] = {}
        for row, clip in enumerate(self.clips):
            if clip.split == "test" and rows.setdefault(clip.name, row) != row and clip.name in labels:
                raise DataError(
                    f"{clip.name} names several test clips; select one machine type, then label it"
                )
        strangers = sorted(labels.keys() - rows.keys())
        if strangers:
            raise DataError(
                f"{len(strangers)} of {len(labels)} labels name no test clip here ({first_of(strangers)}); "
                "give the labels of this machine type and these ids only"
            )
        clips = list(self.clips)
        for name, label in labels.items():
            clip = clips[rows[name]]
            if label not in (0, 1) or clip.label not in (None, label):
                raise DataError(
                    f"{clip.path}: has label {clip.label}, which cannot become {label}; correct one"
                )
            clips[rows[name]] = replace(clip, label=label)
        return replace(self, clips=tuple(clips))


def read_labels(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read labels from CSV: `file,label` or DCASE's `test name,original name,label`; a header may come first.

    UTF-8, with or without a byte order mark, and any line ends; tabs or semicolons may stand for the commas.

    Returns:
        From file name to 0 (normal) or 1 (anomaly), for `ClipTable.with_labels`.

    Raises:
        DataError: no such file, no text, no rows, a row of another form, or two labels for one name. The first row is
            a header only if it looks like one: its first cell is "file" or the like, its last "label" or the like.
    """
    try:
        text = read_text(Path(path))
        first = next((line for line in io.StringIO(text) if line.strip()), "")
        separator = max(",", "\t", ";", key=first.rfind)  # what stands before the label
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a CSV file of labels ({error}); save it as text in UTF-8"
        ) from error
    rows = [(line, row) for line, row in rows if any(row)]
    if rows and _is_header(rows[0][1]):
        del rows[0]
    labels: dict[str, int] = {}
    for line, row in rows:
        if len(row) not in (2, 3) or not row[0] or row[-1] not in ("0", "1"):
            raise DataError(
                f"{path}, line {line}: {','.join(row)!r} is not `file,label` with a label of 0 or 1"
            )
        if labels.setdefault(row[0], int(row[-1])) != int(row[-1]):
            raise DataError(f"{path}, line {line}: {row[0]} has both labels; keep the right one")
    if not labels:
        raise DataError(f"{path}: holds no labels; it should have lines `file,label`")
    return labels


def _is_header(row: Sequence[str]) -> bool:
    """Whether a first row names columns, in words that are used for it; anything else must be a label."""
    label = re.match(r"\w*", row[-1].lower())  # of "label (0 or 1)" the word
    return (
        len(row) in (2, 3)
        and row[0].lower() in _NAME_WORDS
        and label is not None
        and label[0] in _LABEL_WORDS
    )


def first_of(names: Iterable[object], n: int = 5) -> str:
    """The first few names, for a message."""
    words = [str(name) for name in names]
    return ", ".join(words[:n]) + (f" and {len(words) - n} more" if len(words) > n else "")


def count(n: int, thing: str) -> str:
    """A number of things, for a message: "1 clip", "2 clips"."""
    return f"{n} {thing}" + ("" if n == 1 else "s")
