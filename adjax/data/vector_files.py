"""Tables of vectors as they lie on disk: CSV, NPZ or Parquet, told by their first bytes, not by their names."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from adjax.data.clips import count, first_of
from adjax.files import check_regular
from adjax.types import DataError, readable

SUFFIXES = (".csv", ".tsv", ".npz", ".parquet", ".pq")
WORDS = ("file", "machine_type", "machine_id", "split", "label", "domain")  # columns that are no numbers
MAX_COLUMNS = 2**16
_LABELS = {"class", "target", "anomaly", "is_anomaly", "condition", "ground_truth", "labels"}
_INDEX = ("unnamed: ", "__index_level_")  # what pandas calls an index
_LONGEST = 2**24  # characters of a line


class RawTable(NamedTuple):
    """A table whose columns are understood, and whose cells are not yet judged.

    Attributes:
        words: the text of each row, for each of WORDS that the table has.
        columns: (d,) names of the numbers; () where nobody has named them.
        values: (n, d) float64; NaN where a cell is no number.
        rows: (n,) number of each row, as people count them.
        texts: what stands in a cell that is no number, by its place in `values`.
        ragged: what is wrong with the rows that have other numbers of cells, by place.
    """

    words: Mapping[str, Sequence[str]]
    columns: tuple[str, ...]
    values: np.ndarray
    rows: Sequence[int]
    texts: Mapping[tuple[int, int], str]
    ragged: Mapping[int, str]


def is_table(what: Any) -> bool:
    """Whether this is the path of a table, by its suffix."""
    return (
        isinstance(what, str | os.PathLike)
        and os.fsdecode(what).lower().endswith(SUFFIXES)
        and not os.path.isdir(what)
    )


def read_raw(path: Path) -> RawTable:
    """Read a table.

    Raises:
        DataError: it cannot be read, has no rows, or columns that cannot be told apart.
    """
    try:
        check_regular(path)
        with open(path, "rb") as file:
            start = file.read(4)
        read = {b"PK\x03\x04": _read_npz, b"PAR1": _read_parquet}.get(start, _read_csv)
        raw = read(path)
    except (
        OSError, ValueError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read as a table of vectors ({reason}); give CSV as text in UTF-8, NPZ without Python "
            "objects, or Parquet"
        ) from error
    if not len(raw.values):
        raise DataError(f"{path}: has no rows; give one for each clip")
    return raw


def _words(where: object, names: Sequence[str]) -> dict[str, int]:
    """Where the WORDS stand among the columns.

    Raises:
        DataError: names that are empty, given twice or may be a label, or no file.
    """
    lower = [name.lower() for name in names]
    for i, name in enumerate(names):
        if not name:
            raise DataError(
                f"{where}: column {i + 1} has no name; give each column one (an index that pandas wrote has none: "
                "write with index=False)"
            )
        if lower[i].startswith(_INDEX):
            raise DataError(f"{where}: column {name!r} is an index that pandas wrote; write with index=False")
        if lower[i] in _LABELS:
            raise DataError(
                f"{where}: column {name!r} may be a label, which is no number to learn from; call it label, or remove "
                "it"
            )
    counts = Counter(low if low in WORDS else name for low, name in zip(lower, names, strict=True))
    if twice := [name for name, n in counts.items() if n > 1]:
        raise DataError(
            f"{where}: {first_of(map(repr, twice))} names several columns; keep one, or rename it"
        )
    if "file" not in lower:
        raise DataError(
            f"{where}: has no column 'file', the name of each clip; it has {first_of(map(repr, names))}"
        )
    return {name: i for i, name in enumerate(lower) if name in WORDS}


def _numbers(names: Sequence[str], words: Mapping[str, int]) -> list[int]:
    taken = {*words.values()}
    return [i for i in range(len(names)) if i not in taken]


def _check_width(where: object, n: int) -> None:
    if not 0 < n <= MAX_COLUMNS:
        raise DataError(
            f"{where}: has {count(n, 'column')} of numbers; give one to {MAX_COLUMNS:,}, beside {', '.join(WORDS)}"
        )


def _read_csv(path: Path) -> RawTable:
    """Commas, semicolons or tabs; the header is row 1, as in a spreadsheet."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = _lines(path, file)
        first = next(lines, "")
        reader = csv.reader(chain([first], lines), delimiter=max(",;\t", key=first.count), strict=True)
        number = 0
        rows: list[int] = []
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise DataError(f"{path}: its first row is empty; give the names of the columns there")
            places, number = _words(f"{path}, row 1", header), 1
            numbers = _numbers(header, places)
            _check_width(f"{path}, row 1", len(numbers))
            words: dict[str, list[str]] = {name: [] for name in places}
            values: list[np.ndarray] = []
            texts: dict[tuple[int, int], str] = {}
            ragged: dict[int, str] = {}
            for number, cells in enumerate(reader, start=2):
                if not any(cells):  # a blank line, or commas alone
                    continue
                place = len(rows)
                if len(cells) != len(header):
                    ragged[place] = (
                        f"{count(len(cells), 'cell')}, but row 1 has {len(header)}: correct the row"
                    )
                    cells += [""] * (len(header) - len(cells))
                own = [cells[i] for i in numbers]
                try:
                    values.append(np.fromiter(map(float, own), np.float64, len(own)))
                except ValueError:
                    values.append(np.array([_number(cell) for cell in own]))
                    texts |= {(place, j): own[j] for j in np.flatnonzero(np.isnan(values[-1])).tolist()}
                rows.append(number)
                for name, i in places.items():
                    words[name].append(cells[i].strip())
        except csv.Error as error:
            raise DataError(f"{path}: row {number + 1} is no CSV ({error}); correct it") from error
    matrix = np.stack(values) if values else np.zeros((0, len(numbers)))
    return RawTable(words, tuple(header[i] for i in numbers), matrix, rows, texts, ragged)


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise DataError(
                f"{path}: holds a line of more than {_LONGEST:,} characters, which is no row of a table; give one line "
                "for each clip"
            )
        yield line


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _read_npz(path: Path) -> RawTable:
    """Arrays named as the columns, the numbers in `vectors` (n, d), their names in `columns`; rows count from 0.

    `files` is another name of `file`, which `numpy.savez` keeps for itself.
    """
    # Opened here: NumPy leaves a damaged one open.
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        names = [{"files": "file"}.get(name, name) for name in file.files]
        if strangers := [name for name in names if name not in (*WORDS, "vectors", "columns")]:
            raise DataError(
                f"{path}: holds {first_of(map(repr, strangers))}; give arrays named files, vectors, columns, "
                f"{', '.join(WORDS[1:])}"
            )
        arrays = {name: file[own] for name, own in zip(names, file.files, strict=True)}
    values = arrays.pop("vectors", np.zeros(0))
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: its array 'vectors' is {values.dtype}{list(values.shape)}; give (n_clips, n_features) numbers"
        )
    columns = tuple(map(str, arrays.pop("columns", np.zeros(0)).reshape(-1).tolist()))
    if len(_words(path, [*arrays, *columns])) > len(arrays):
        raise DataError(
            f"{path}: 'columns' names numbers as {', '.join(WORDS)}; give those as arrays of their own"
        )
    if columns and len(columns) != values.shape[1]:
        raise DataError(
            f"{path}: {len(columns)} names in 'columns' for {values.shape[1]} numbers in 'vectors'"
        )
    _check_width(path, values.shape[1])
    for name, array in arrays.items():
        if array.shape != (len(values),):
            raise DataError(
                f"{path}: {name!r} has shape {array.shape}; give one for each of {len(values)} vectors"
            )
    words = {name: [text.strip() for text in array.astype(str).tolist()] for name, array in arrays.items()}
    return RawTable(words, columns, values.astype(np.float64), range(len(values)), {}, {})


def _read_parquet(path: Path) -> RawTable:
    """Columns as in CSV; rows count from 0."""
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise DataError(
            f"{path}: is Parquet, which needs pyarrow: pip install 'adjax[parquet]', or save the table as CSV or NPZ"
        ) from error
    with parquet.ParquetFile(path) as file:
        table = file.read()
    names = table.column_names
    places = _words(path, names)
    numbers = _numbers(names, places)
    _check_width(path, len(numbers))
    for i in numbers:
        kind = table.schema.field(i).type
        if not any(
            is_kind(kind)
            for is_kind in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
        ):
            raise DataError(
                f"{path}: column {names[i]!r} holds {readable(str(kind))}, no numbers; remove it, or give a column for "
                "each number"
            )
    values = np.empty((table.num_rows, len(numbers)))
    for j, i in enumerate(numbers):
        column = table.column(i)
        if types.is_boolean(column.type):
            column = column.cast("int8")
        values[:, j] = column.cast("float64", safe=False).to_numpy()
    words = {
        name: ["" if text is None else str(text).strip() for text in table.column(i).to_pylist()]
        for name, i in places.items()
    }
    return RawTable(words, tuple(names[i] for i in numbers), values, range(len(values)), {}, {})
