"""Recognise one recording: what its name and the folders above it say about machine, split and label.

Nothing here touches the disk. `adjax.data.index` walks a folder, asks here about each file, and settles what only
all files together can tell.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from adjax.data.clips import Clip, Split, first_of
from adjax.types import ClipError, readable

LAYOUTS = """\
  DCASE 2020:     <machine_type>/{train,test}/normal_id_00_<anything>.wav
                  (or anomaly_id_00_<anything>.wav; unlabelled: id_00_<anything>.wav)
  DCASE 2021+:    <machine_type>/{train,test,source_test,target_test}/
                  section_00_source_train_normal_0000_<attributes>.wav (unlabelled: section_00_0000.wav)
  train and test: <machine_type>/{train,test}/<any name>.wav, or one more folder for each machine:
                  <machine_type>/{train,test}/<machine>/<any name>.wav
  MIMII:          <machine_type>/id_00/{normal,abnormal}/<any name>.wav
  two folders:    {normal,abnormal}/<any name>.wav, or <machine>/{normal,abnormal}/<any name>.wav
  plain:          any folder of recordings, all of them taken for normal; a sub-folder is a machine"""

# folder -> (domain, split)
SPLIT_FOLDERS: dict[str, tuple[str, Split]] = {
    "train": ("", "train"),
    "test": ("", "test"),
    "source_test": ("source", "test"),
    "target_test": ("target", "test"),
}
LABEL_FOLDERS = {"normal": 0, "abnormal": 1, "anomaly": 1, "anomalous": 1}
NO_LAYOUT = "its name fits no known layout; rename it or move it away"

_LABEL = "(?P<label>normal|anomaly|anomalous|abnormal)"
_NAME_2020 = re.compile(rf"(?:{_LABEL}_)?(?P<id>id_\d+)(?![0-9A-Za-z])(?P<rest>.*)", re.DOTALL)
_NAME_2021 = re.compile(
    r"(?P<id>section_\d+)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    rf"(?:_{_LABEL})?(?P<number>_\d+)?(?:_(?P<attributes>.+))?",
    re.DOTALL,
)
_ID_INSIDE = re.compile(r"(?<![0-9A-Za-z])(?P<id>(?:id|section)_\d\d)(?![0-9A-Za-z])")
_ANOMALY_WORD = re.compile(r"(?<![a-z])((ab|non|not)[ _-]?normal|anomaly|anomalies|anomalous)(?![a-z])", re.I)
_NORMAL_WORD = re.compile(r"(?<![a-z])(?<!non[ _-])(?<!not[ _-])normal(?![a-z])", re.I)
# Folders that hold a day, a session or a recording of a machine, and are no machine of their own.
_RECORDING_FOLDER = re.compile(
    r"((19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d([T _-].*)?|"
    r"(session|recording|record|rec|run|take|part|day|week|date|file)s?[ _-]*\d+)",
    re.I,
)


class Found(NamedTuple):
    """A recognised clip.

    Attributes:
        clip: the clip; raw clips have no split yet.
        home: where the folder named as the machine type lies.
        kind: "split" (train and test folders), "raw" (normal and abnormal folders), or "plain": no layout, as yet.
        says_id: whether the file's name holds the machine id.
    """

    clip: Clip
    home: Path
    kind: Literal["split", "raw", "plain"]
    says_id: bool


def canonical_type(machine_type: str) -> str:
    """A machine type's name as DCASE writes it: "slide_rail", "Slide Rail" and the like are "slider"."""
    return "slider" if re.fullmatch(r"slide[ _-]?rail", machine_type, re.IGNORECASE) else machine_type


def is_dcase_name(stem: str) -> bool:
    """Whether a name without suffix is one that the challenge's own files have, with a plain running number."""
    match = _NAME_2020.fullmatch(stem)
    if match is not None:
        return re.fullmatch(r"_\d+", match["rest"]) is not None
    match = _NAME_2021.fullmatch(stem)
    return match is not None and match["number"] is not None


def says_anomaly(text: str) -> bool:
    """Whether a name holds the word anomaly, anomalous, abnormal or the like."""
    return _ANOMALY_WORD.search(text) is not None


def recognise(path: Path, root: Path, *, root_is_split: bool = True) -> Found:
    """Read one clip off its name and the folders above it.

    Folders named train, test, normal and so on count from the indexed folder down; the machine type and the
    machine id may stand above it.

    Args:
        path: the file, below `root`.
        root: the indexed folder.
        root_is_split: whether an indexed folder called "test" is the test folder of a machine, or by chance so
            called. Names as in the challenge always show that it is.

    Raises:
        ClipError: name and folders contradict each other, or a name of the challenge lies in a wrong folder.
    """
    above = Path(os.path.abspath(root)).parts
    folders = (*above, *path.relative_to(root).parts[:-1])
    first = len(above) - 1
    challenge = is_dcase_name(path.stem)
    i_split = _last(folders, SPLIT_FOLDERS, first + (not root_is_split and not challenge))
    i_label = next(
        (i for i in range(max(first, 1), len(folders)) if folders[i].lower() in LABEL_FOLDERS), None
    )
    if i_label is not None and (i_split is None or i_split < i_label - 2):
        return _raw(path, folders, first, i_label)
    if i_split is not None and (not challenge or i_label is not None or i_split == len(folders) - 1):
        return _in_split(path, folders, first, i_split)
    if challenge:
        wanted = first_of(SPLIT_FOLDERS)
        raise ClipError(path, f"lies in {folders[-1]}/, not in one of {wanted}; move it to the right one")
    return _plain(path, folders, first)


def _in_split(path: Path, folders: tuple[str, ...], first: int, i_split: int) -> Found:
    """A clip below train/, test/, source_test/ or target_test/."""
    folder = folders[i_split]
    domain, split = SPLIT_FOLDERS[folder.lower()]
    said = _read_name(path.stem)
    if said.get("split") not in (None, split) or (domain and said.get("domain") not in (None, domain)):
        raise ClipError(path, f"its name contradicts its folder {folder}/; move it to the right one")
    i_type = i_split - 1
    while i_type > max(first, 1) and folders[i_type].lower() in LABEL_FOLDERS:
        i_type -= 1
    below = folders[i_split + 1 :]
    label = _label(path, said, (*folders[i_type + 1 : i_split], *below))
    if split == "train":
        if label == 1 or any(map(says_anomaly, below)):
            raise ClipError(
                path, "is an anomaly among the training clips, which must be normal; move it to test/"
            )
        label = 0
    machine, rest = ((), below) if "id" in said else _part_machine(below)
    clip = Clip(
        path,
        canonical_type(readable(folders[i_type])),
        said.get("id") or readable("/".join(machine)),
        said.get("domain") or domain,
        split,
        label,
        readable(said.get("attributes", "")),
    )
    name = "/".join((*folders[i_type + 1 : i_split], *rest, path.name))
    return Found(_named(clip, name), Path(*folders[:i_type]), "split", "id" in said)


def _raw(path: Path, folders: tuple[str, ...], first: int, i_label: int) -> Found:
    """A clip below normal/ or abnormal/, in raw MIMII or anywhere else."""
    said, rest = _read_name(path.stem), folders[i_label + 1 :]
    label = _label(path, said, folders[i_label:])
    if i_label > 2 and re.fullmatch(r"id_\d+", folders[i_label - 1]):
        machine_id, name = folders[i_label - 1], "/".join((*rest, path.name))
        if machine_id not in path.name or _label_word(path.stem) != label:
            name = f"{'anomaly' if label else 'normal'}_{machine_id}_{name}"
        clip = Clip(path, canonical_type(readable(folders[i_label - 2])), machine_id, label=label)
        home = Path(*folders[: i_label - 2])
    else:
        i_type = first - 1 if i_label == first and first > 1 else first
        machine, days = _part_machine(folders[i_type + 1 : i_label])
        machine_id = readable("/".join((*machine, *([said["id"]] if "id" in said else []))))
        name = "/".join((*days, folders[i_label], *rest, path.name))
        clip = Clip(path, _type_of(folders[i_type]), machine_id, label=label)
        home = Path(*folders[:i_type])
    return Found(_named(clip, name), home, "raw", "id" in said)


def _plain(path: Path, folders: tuple[str, ...], first: int) -> Found:
    """A clip in no known layout, read as one of a plain folder."""
    said = _read_name(path.stem)
    machine, rest = _part_machine(folders[first + 1 :])
    machine_id = readable("/".join((*machine, *([said["id"]] if "id" in said else []))))
    clip = Clip(path, _type_of(folders[first]), machine_id, split="train", label=0)
    home = Path(*folders[:first])
    return Found(_named(clip, "/".join((*rest, path.name))), home, "plain", "id" in said)


def _read_name(stem: str) -> dict[str, str]:
    """What a file's name says, of id, domain, split, label and attributes."""
    match = _NAME_2020.fullmatch(stem) or _NAME_2021.fullmatch(stem) or _ID_INSIDE.search(stem)
    return {field: text for field, text in match.groupdict().items() if text} if match else {}


def _label(path: Path, said: dict[str, str], folders: tuple[str, ...]) -> int | None:
    """The label from name and folders, None if none of them says; raise where they contradict each other."""
    in_folders = {LABEL_FOLDERS[f.lower()] for f in folders if f.lower() in LABEL_FOLDERS}
    if len(in_folders) > 1:
        raise ClipError(path, "lies in a folder for normal and one for abnormal clips; move it out of one")
    of_folder = next(iter(in_folders), None)
    structured = said.get("label")
    of_name = LABEL_FOLDERS[structured] if structured else _label_word(path.stem)
    if of_folder is None:
        return of_name
    # An abnormal clip may well be called "normal speed 3"; a clip called an anomaly must never count as normal.
    if of_name not in (None, of_folder) and (structured or of_folder == 0):
        raise ClipError(path, "its name contradicts its folder; move it to the right one")
    return of_folder


def _label_word(stem: str) -> int | None:
    """1 if a name holds a word for anomaly, 0 if only the word normal, None if neither."""
    return 1 if says_anomaly(stem) else 0 if _NORMAL_WORD.search(stem) else None


def _part_machine(folders: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part folders into those that name a machine and those that name a day, a session or a label."""
    rest = tuple(f for f in folders if f.lower() in LABEL_FOLDERS or _RECORDING_FOLDER.fullmatch(f))
    return tuple(f for f in folders if f not in rest), rest


def _named(clip: Clip, name: str) -> Clip:
    """The clip with this name, which it may have already."""
    return clip if clip.name == readable(name) else replace(clip, key=readable(name))


def _type_of(folder: str) -> str:
    """A machine type's name from its folder; the top of a disk has none."""
    return "recordings" if os.path.dirname(folder) == folder else canonical_type(readable(folder))


def _last(folders: tuple[str, ...], names: dict[str, tuple[str, Split]], first: int) -> int | None:
    """Where the lowest folder with one of these names lies that has a named folder above it."""
    return next(
        (i for i in range(len(folders) - 1, max(first, 2) - 1, -1) if folders[i].lower() in names), None
    )
