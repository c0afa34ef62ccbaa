"""Index a folder of recordings into one host table: DCASE 2020, DCASE 2021 and later, MIMII, or any plain folder.

The layouts (see `adjax.data.layouts.LAYOUTS`) are those of the data of DCASE Task 2, 2020 to 2025, of MIMII (Purohit
et al., 2019), and of people who have never heard of either. Files are only listed here, never opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from adjax.data.clips import Clip, ClipTable, first_of
from adjax.data.layouts import (
    LAYOUTS,
    NO_LAYOUT,
    SPLIT_FOLDERS,
    Found,
    canonical_type,
    recognise,
    says_anomaly,
)
from adjax.types import ClipError, DataError, readable

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".w64", ".caf", ".au")
_UNREADABLE = (".m4a", ".aac", ".wma", ".mp4", ".mov", ".mkv", ".avi", ".amr", ".3gp", ".webm")


def index_folder(
    root: str | os.PathLike[str], *, machine_type: str | None = None, seed: int = 0
) -> ClipTable:
    """List the clips under a folder and read machine, split and label off their names and folders.

    The folder may be a machine type's, one that holds several, or a parent of those (`dev_data` beside
    `eval_data`). Links are followed; hidden files are ignored, and so is everything but the `SUFFIXES`.

    Where no file is in a known layout, the folder is a **plain** one: machine type = the folder's name, machine
    id = the path of the sub-folder ("" for clips in the folder itself, or "." if there are sub-folders beside them).
    Sub-folders named by a date or as "session 3", "rec_07", "part 2" and the like hold recordings of the machine
    above them and are no machine. An id in a file's name (id_00, section_00) is part of the machine id. All clips
    of a plain folder are training clips and taken for normal, because nobody has said otherwise; those with a
    word like "abnormal" in their path are rejected. Where some files are in a known layout, all others are rejected.

    Folders `normal` and `abnormal` (or `anomaly`, `anomalous`), raw MIMII's or any, have no split. As in Purohit et
    al. (2019), test = all abnormal clips of a machine and as many of its normal ones, but never more than half of
    those, so that training keeps at least as many; train = the rest.

    Args:
        root: the folder.
        machine_type: keep this type only ("slide_rail" means "slider"); None keeps all.
        seed: chooses the normal test clips where there is no split. A machine's choice does not depend on others.

    Returns:
        Rows sorted by machine type, id, split (train first) and name. Files with names in no known layout, and what
        has a clip's name and is no file, are listed in `ClipTable.rejected`.

    Raises:
        DataError: no such folder, not a folder, no clips in it, none in a known layout, none of that machine
            type, or one machine in several folders or layouts (such as raw MIMII at several noise levels).
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds the clips")
    found, rejected, notes = _recognise_all(root)
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
    clips = [clip.clip for clip in found if clip.kind != "raw"]
    clips += split_by_label([clip.clip for clip in found if clip.kind == "raw"], seed)
    clips.sort(key=lambda c: (c.machine_type, c.machine_id, c.split == "test", c.name))
    return ClipTable(tuple(clips), tuple(rejected), tuple(notes))


def _recognise_all(root: Path) -> tuple[list[Found], list[ClipError], list[str]]:
    """All clips under `root`, the files that are none, and what was taken for granted."""
    found: list[Found] = []
    no_files: list[ClipError] = []
    misplaced: list[ClipError] = []
    # A folder by chance called "test" is none of a data set; one beside a "train" is.
    here = Path(os.path.abspath(root))
    beside = [here.parent / name for name in SPLIT_FOLDERS if name != here.name.lower()]
    root_is_split = here.name.lower() in SPLIT_FOLDERS and any(map(os.path.isdir, beside))
    for path in list_audio(root):
        try:
            _check_regular(path)
        except ClipError as error:
            no_files.append(error)
            continue
        try:
            found.append(recognise(path, root, root_is_split=root_is_split))
        except ClipError as error:
            misplaced.append(error)
    notes = []
    if found and not misplaced and all(item.kind == "plain" for item in found):
        found, strangers = _part(found, lambda item: not says_anomaly(str(item.clip.path.relative_to(root))))
        reason = (
            "its name says that it is no normal recording, but a folder in no known layout is taken for normal "
            "throughout; put such clips into abnormal/ and the others into normal/"
        )
        notes = [_note_plain(here, found)] if found else []
    else:
        with_ids = {(item.home, item.clip.machine_type) for item in found if item.says_id}
        found, strangers = _part(
            found,
            lambda item: (
                item.kind == "raw"
                or (
                    item.kind == "split"
                    and (item.says_id or (item.home, item.clip.machine_type) not in with_ids)
                )
            ),
        )
        reason = NO_LAYOUT
    errors = [*no_files, *misplaced, *(ClipError(item.clip.path, reason) for item in strangers)]
    return _name_the_top(found), sorted(errors, key=lambda error: error.path), notes


def _part(found: list[Found], keep: Callable[[Found], bool]) -> tuple[list[Found], list[Found]]:
    return [item for item in found if keep(item)], [item for item in found if not keep(item)]


def _note_plain(root: Path, found: list[Found]) -> str:
    n = len({item.clip.machine_id for item in found})
    machines = "one machine" if n == 1 else f"{n} machines, one for each sub-folder"
    taken = "its one recording is taken" if len(found) == 1 else f"all {len(found)} recordings are taken"
    name = readable(root.name) or str(root)
    return f"{name}: in no known layout, so {taken} for normal clips of {machines}"


def _name_the_top(found: list[Found]) -> list[Found]:
    """Give clips without a machine id the id "." where other clips of their type have one: "" would mean all."""
    named = {item.clip.machine_type for item in found if item.clip.machine_id}
    return [
        item
        if item.clip.machine_id or item.clip.machine_type not in named
        else item._replace(clip=replace(item.clip, machine_id=".", key=item.clip.name))
        for item in found
    ]


def _check_regular(path: Path) -> None:
    """Raise ClipError unless this is a file: opening a pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = "is a link to nothing" if os.path.islink(path) else f"cannot be reached ({error.strerror})"
        raise ClipError(path, f"{reason}; mend or remove it") from error
    if not stat.S_ISREG(mode):
        raise ClipError(path, "is no file but a pipe, a socket or a device; move it away")


def list_audio(root: Path) -> list[Path]:
    """All clips under `root` by their suffix, sorted; a link back to a folder above it ends there."""

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
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(paths)


def _check_one_source(found: list[Found]) -> None:
    """Raise when the same machine lies there twice: it would be trained on and tested with itself."""
    remedy = "give the folder of one of them"
    raw_homes: dict[str, set[Path]] = {}
    for item in found:
        if item.kind == "raw":
            raw_homes.setdefault(item.clip.machine_type, set()).add(item.home)
    for machine_type, homes in raw_homes.items():
        if len(homes) > 1:
            raise DataError(
                f"raw MIMII clips of machine type {machine_type} lie in {first_of(sorted(homes))}, "
                f"which are the same machines at several noise levels or copies; {remedy}"
            )
    first: dict[tuple[str, str, str, str], Path] = {}
    for clip, home, kind, _ in found:
        if kind != "raw" and clip.machine_type in raw_homes:
            raise DataError(
                f"machine type {clip.machine_type} lies in two layouts: folders normal and abnormal in "
                f"{first_of(raw_homes[clip.machine_type])}, train and test in {home}; {remedy}"
            )
        other = first.setdefault(
            (clip.machine_type, clip.machine_id, clip.split, os.path.splitext(clip.name)[0]), clip.path
        )
        if other != clip.path:
            if other.parent == clip.path.parent:
                remedy = "keep one of them"
            raise DataError(f"{other} and {clip.path} have the same machine, split and name; {remedy}")


def split_by_label(clips: list[Clip], seed: int) -> list[Clip]:
    """Give clips with labels and without split one, machine by machine; see `index_folder`."""
    machines: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        machines.setdefault((clip.machine_type, clip.machine_id), []).append(clip)

    def draw(clip: Clip) -> bytes:
        # A hash, not a generator: the same clips on every platform and NumPy, whatever else is in the folder.
        whose = "" if clip.machine_id in clip.name else f"{clip.machine_id}/"
        return hashlib.sha256(f"{seed}/{clip.machine_type}/{whose}{clip.name}".encode()).digest()

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
        telling = next((error for error in rejected if error.reason != NO_LAYOUT), rejected[0])
        raise DataError(
            f"{root}: none of its {len(rejected)} clips is in a known layout; one of them: {telling}\n"
            f"The layouts known:\n{LAYOUTS}"
        )
    names = sorted(path.name for path in root.rglob("*") if not path.name.startswith("."))
    zips = [name for name in names if name.lower().endswith((".zip", ".7z", ".tar", ".tar.gz", ".tgz"))]
    others = [name for name in names if name.lower().endswith(_UNREADABLE)]
    if zips:
        remedy = f"unzip {first_of(zips)} first"
    elif others:
        remedy = f"convert {first_of(others, 3)} to wav or flac first (ffmpeg -i IN OUT.wav)"
    else:
        remedy = f"the layouts known:\n{LAYOUTS}"
    raise DataError(f"{root}: holds no recordings ({', '.join(SUFFIXES)}); {remedy}")
