"""Index a folder of clips into one host table: DCASE 2020, DCASE 2021 and later, raw MIMII.

The layouts (see `LAYOUTS`) are those of the data of DCASE Task 2, 2020 to 2025, and of MIMII (Purohit et al.,
2019). Files are only listed here, never opened.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import numpy as np

from adjax.types import ClipError, DataError

Split = Literal["train", "test", ""]
UNKNOWN = -1  # in `ClipTable.labels`

LAYOUTS = """\
  DCASE 2020:   <machine_type>/{train,test}/normal_id_00_00000000.wav
                (or anomaly_id_00_00000000.wav; unlabelled: id_00_00000000.wav)
  DCASE 2021+:  <machine_type>/{train,test,source_test,target_test}/
                section_00_source_train_normal_0000_<attributes>.wav (unlabelled: section_00_0000.wav)
  MIMII:        <machine_type>/id_00/{normal,abnormal}/00000000.wav"""

_SUFFIXES = (".wav", ".flac")
# folder -> (domain, split)
_FOLDERS: dict[str, tuple[str, Split]] = {
    "train": ("", "train"),
    "test": ("", "test"),
    "source_test": ("source", "test"),
    "target_test": ("target", "test"),
}
_LABELS = {"normal": 0, "anomaly": 1, "abnormal": 1, None: None}
_NAME_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?(?P<id>id_\d+)_\d+")
_NAME_2021 = re.compile(
    r"(?P<id>section_\d+)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<attributes>.+))?"
)


@dataclass(frozen=True)
class Clip:
    """One clip: its file and what its name and folder say.

    Attributes:
        path: the file, as reached from the indexed folder.
        machine_type: for example "slider"; a slide rail is "slider" whatever its folder calls it.
        machine_id: as written in the name, "id_00" or "section_00".
        domain: "source", "target" or "" (not said).
        split: "train" or "test"; "" for a clip that belongs to neither.
        label: 0 normal, 1 anomaly, None unknown.
        attributes: the rest of a 2021+ name, for example "vel_6"; otherwise "".
    """

    path: Path
    machine_type: str = ""
    machine_id: str = ""
    domain: str = ""
    split: Split = ""
    label: int | None = None
    attributes: str = ""

    @property
    def name(self) -> str:
        """File name; for raw MIMII, where those repeat, as DCASE 2020 has it: normal_id_00_00000000.wav."""
        if self.machine_id in self.path.name:
            return self.path.name
        return f"{'anomaly' if self.label else 'normal'}_{self.machine_id}_{self.path.name}"


@dataclass(frozen=True)
class ClipTable:
    """Clips in a fixed order: the row order of everything computed from them.

    Attributes:
        clips: the rows.
        rejected: files under the indexed folder whose name fits no layout, one error each. They belong to the
            whole index: `select` leaves them behind.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[ClipError, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __getitem__(self, row: int) -> Clip:
        return self.clips[row]

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
                f"{len(strangers)} of {len(labels)} labels name no test clip here ({_some(strangers)}); "
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

    Returns:
        From file name to 0 (normal) or 1 (anomaly), for `ClipTable.with_labels`.

    Raises:
        DataError: no such file, no text, no rows, a row of another form, or two labels for one name.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file of labels ({error})") from error
    labels: dict[str, int] = {}
    for line, row in enumerate(rows, start=1):
        if not any(row):
            continue
        if len(row) not in (2, 3) or not row[0] or row[-1] not in ("0", "1"):
            if line == 1 and len(row) in (2, 3):
                continue  # a header
            raise DataError(
                f"{path}, line {line}: {','.join(row)!r} is not `file,label` with a label of 0 or 1"
            )
        if labels.setdefault(row[0], int(row[-1])) != int(row[-1]):
            raise DataError(f"{path}, line {line}: {row[0]} has both labels; keep the right one")
    if not labels:
        raise DataError(f"{path}: holds no labels; it should have lines `file,label`")
    return labels


def index_folder(
    root: str | os.PathLike[str], *, machine_type: str | None = None, seed: int = 0
) -> ClipTable:
    """List the clips under a folder and read machine, split and label off their names.

    The folder may be a machine type's, one that holds several, or a parent of those (`dev_data` beside
    `eval_data`). Links are followed; hidden files are ignored, and so is everything but .wav and .flac.

    Raw MIMII has no split. As in Purohit et al. (2019), test = all abnormal clips of an id and as many of its
    normal ones, but never more than half of those, so that training keeps at least as many; train = the rest.

    Args:
        root: the folder.
        machine_type: keep this type only ("slide_rail" means "slider"); None keeps all.
        seed: chooses the normal test clips of raw MIMII. An id's choice does not depend on the others.

    Returns:
        Rows sorted by machine type, id, split (train first) and name. Files with names in no known layout are
        listed in `ClipTable.rejected`.

    Raises:
        DataError: no such folder, not a folder, no clips in it, none in a known layout, none of that machine
            type, or one machine in several folders or layouts (such as raw MIMII at several noise levels).
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds the clips")
    found, rejected = _recognise_all(_audio_files(root))
    if not found:
        _explain_nothing(root, rejected)
    if machine_type is not None:
        wanted, types = canonical_type(machine_type), {clip.clip.machine_type for clip in found}
        if wanted not in types:
            raise DataError(
                f"{root}: has no clips of machine type {machine_type}; it has {_some(sorted(types))}"
            )
        found = [clip for clip in found if clip.clip.machine_type == wanted]
        others = types - {wanted}
        rejected = [e for e in rejected if others.isdisjoint(map(canonical_type, Path(e.path).parts))]
    _check_one_source(found)
    clips = [clip.clip for clip in found if not clip.is_raw]
    clips += _split_raw([clip.clip for clip in found if clip.is_raw], seed)
    clips.sort(key=lambda c: (c.machine_type, c.machine_id, c.split == "test", c.name))
    return ClipTable(tuple(clips), tuple(rejected))


def canonical_type(machine_type: str) -> str:
    """A machine type's name as DCASE writes it: "slide_rail", "Slide Rail" and the like are "slider"."""
    return "slider" if re.fullmatch(r"slide[ _-]?rail", machine_type, re.IGNORECASE) else machine_type


class _Found(NamedTuple):
    """A recognised clip, where its machine type's folder lies, and whether it is raw MIMII (no split)."""

    clip: Clip
    home: Path
    is_raw: bool


def _audio_files(root: Path) -> list[Path]:
    """All .wav and .flac files under `root`, sorted; a link back to a folder above it ends there."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            f"{error.filename}: cannot be listed ({error.strerror}); check its permissions"
        ) from error

    paths: list[Path] = []
    above: dict[
        str, frozenset[str]
    ] = {}  # of each folder: its real path and those of the folders on the way to it
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real, on_the_way = os.path.realpath(folder), above.get(os.path.dirname(folder), frozenset())
        if real in on_the_way:
            subfolders.clear()
            continue
        above[folder] = on_the_way | {real}
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "__MACOSX")
        paths += [
            Path(folder, name)
            for name in names
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(paths)


def _recognise_all(paths: list[Path]) -> tuple[list[_Found], list[ClipError]]:
    found, rejected = [], []
    for path in paths:
        try:
            found.append(_recognise(path))
        except ClipError as error:
            rejected.append(error)
    return found, rejected


def _recognise(path: Path) -> _Found:
    """Read one clip off its name and the folders above it (those above the indexed folder, too)."""
    parents = Path(os.path.abspath(path)).parents
    folder = parents[0].name
    if folder in ("normal", "abnormal") and re.fullmatch(r"id_\d+", parents[1].name) and len(parents) > 3:
        clip = Clip(path, canonical_type(parents[2].name), parents[1].name, label=_LABELS[folder])
        return _Found(clip, parents[3], is_raw=True)
    match = _NAME_2020.fullmatch(path.stem) or _NAME_2021.fullmatch(path.stem)
    if match is None:
        raise ClipError(path, "its name fits no known layout; rename it or move it away")
    if folder not in _FOLDERS or len(parents) < 3:
        raise ClipError(path, f"lies in {folder}/, not in one of {_some(_FOLDERS)}; move it to the right one")
    said, (domain, split) = match.groupdict(), _FOLDERS[folder]
    if said.get("split") not in (None, split) or (domain and said.get("domain") not in (None, domain)):
        raise ClipError(path, f"its name contradicts its folder {folder}/; move it to the right one")
    label = _LABELS[said["label"]]
    if split == "train" and label == 1:
        raise ClipError(
            path, "is an anomaly among the training clips, which must be normal; move it to test/"
        )
    clip = Clip(
        path,
        canonical_type(parents[1].name),
        said["id"],
        said.get("domain") or domain,
        split,
        label,
        said.get("attributes") or "",
    )
    return _Found(clip, parents[2], is_raw=False)


def _check_one_source(found: list[_Found]) -> None:
    """Raise when the same machine lies there twice: it would be trained on and tested with itself."""
    remedy = "give the folder of one of them"
    raw_homes: dict[str, set[Path]] = {}
    for item in found:
        if item.is_raw:
            raw_homes.setdefault(item.clip.machine_type, set()).add(item.home)
    for machine_type, homes in raw_homes.items():
        if len(homes) > 1:
            raise DataError(
                f"raw MIMII clips of machine type {machine_type} lie in {_some(sorted(homes))}, "
                f"which are the same machines at several noise levels or copies; {remedy}"
            )
    first: dict[tuple[str, str, str], Path] = {}
    for clip, home, is_raw in found:
        if not is_raw and clip.machine_type in raw_homes:
            raise DataError(
                f"machine type {clip.machine_type} lies in two layouts: raw MIMII in "
                f"{_some(raw_homes[clip.machine_type])}, DCASE in {home}; {remedy}"
            )
        other = first.setdefault((clip.machine_type, clip.split, Path(clip.name).stem), clip.path)
        if other != clip.path:
            raise DataError(f"{other} and {clip.path} have the same machine, split and name; {remedy}")


def _split_raw(clips: list[Clip], seed: int) -> list[Clip]:
    """Give raw MIMII clips their split, machine by machine."""
    machines: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        machines.setdefault((clip.machine_type, clip.machine_id), []).append(clip)

    def draw(clip: Clip) -> bytes:
        # A hash, not a generator: the same clips on every platform and NumPy, whatever else is in the folder.
        return hashlib.sha256(f"{seed}/{clip.machine_type}/{clip.name}".encode()).digest()

    out = []
    for machine in machines.values():
        normal = sorted((clip for clip in machine if clip.label == 0), key=draw)
        abnormal = [clip for clip in machine if clip.label == 1]
        n_test = min(len(abnormal), len(normal) // 2)
        out += [replace(clip, split="test") for clip in normal[:n_test] + abnormal]
        out += [replace(clip, split="train") for clip in normal[n_test:]]
    return out


def _explain_nothing(root: Path, rejected: list[ClipError]) -> NoReturn:
    if rejected:
        raise DataError(
            f"{root}: none of its {len(rejected)} clips is in a known layout; the first: {rejected[0]}\n"
            f"The layouts known:\n{LAYOUTS}"
        )
    zips = sorted(path.name for path in root.glob("*.zip"))
    remedy = f"unzip {_some(zips)} first" if zips else f"the layouts known:\n{LAYOUTS}"
    raise DataError(f"{root}: holds no .wav or .flac clips; {remedy}")


def _some(names: Iterable[object], n: int = 5) -> str:
    """The first few names, for a message."""
    words = [str(name) for name in names]
    return ", ".join(words[:n]) + (f" and {len(words) - n} more" if len(words) > n else "")
