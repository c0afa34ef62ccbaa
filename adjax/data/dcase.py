"""Index a folder of clips into one host table: DCASE 2020, DCASE 2021 and later, raw MIMII.

The layouts (see `LAYOUTS`) are those of the data of DCASE Task 2, 2020 to 2025, and of MIMII (Purohit et al.,
2019). Files are only listed here, never opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from adjax.data.clips import Clip, ClipTable, Split, first_of
from adjax.types import ClipError, DataError

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
    found, rejected = _recognise_all(list_audio(root))
    if not found:
        _explain_nothing(root, rejected)
    if machine_type is not None:
        wanted, types = canonical_type(machine_type), {clip.clip.machine_type for clip in found}
        if wanted not in types:
            raise DataError(
                f"{root}: has no clips of machine type {machine_type}; it has {first_of(sorted(types))}"
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


def list_audio(root: Path) -> list[Path]:
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


def recognise(path: Path) -> Clip:
    """A clip as its name and the folders above it say.

    Raises:
        ClipError: they say nothing that is known.
    """
    return _recognise(path).clip


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
        raise ClipError(
            path, f"lies in {folder}/, not in one of {first_of(_FOLDERS)}; move it to the right one"
        )
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
                f"raw MIMII clips of machine type {machine_type} lie in {first_of(sorted(homes))}, "
                f"which are the same machines at several noise levels or copies; {remedy}"
            )
    first: dict[tuple[str, str, str], Path] = {}
    for clip, home, is_raw in found:
        if not is_raw and clip.machine_type in raw_homes:
            raise DataError(
                f"machine type {clip.machine_type} lies in two layouts: raw MIMII in "
                f"{first_of(raw_homes[clip.machine_type])}, DCASE in {home}; {remedy}"
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
    remedy = f"unzip {first_of(zips)} first" if zips else f"the layouts known:\n{LAYOUTS}"
    raise DataError(f"{root}: holds no .wav or .flac clips; {remedy}")
