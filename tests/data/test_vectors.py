"""Tables of vectors: what is read, what one bad row costs, and which tables are refused."""

from __future__ import annotations

import functools
import io
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.vectors import LONE, read_table
from adjax.types import DataError, MachineId

HEADER = "file,machine_type,machine_id,split,label,domain,a,b\n"
GOOD = "x.wav,fan,id_00,train,,,1,2\n"


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_row_becomes_a_clip_of_its_machine_in_the_tables_order(tmp_path: Path) -> None:
    rows = "b 2.wav,fan,id_00,train,0,target,1,2\na.wav,fan,id_02,source_test,anomaly,,3,-4e-3\n"
    rows += "a.wav,pump,,test,normal,,5,6\nc.wav,,,TEST,,source,7,8\n"
    table = read_table(written(tmp_path, HEADER + rows))
    assert table.columns == ("a", "b")
    assert table.values.dtype == np.float32
    assert_allclose(table.values, [[1, 2], [3, -4e-3], [5, 6], [7, 8]])
    assert [clip.machine for clip in table.clips] == [
        MachineId("fan", "id_00"), MachineId("fan", "id_02"), MachineId("pump"), LONE,
    ]  # fmt: skip
    assert [(c.name, c.split, c.label, c.domain, c.row) for c in table.clips] == [
        ("b 2.wav", "train", 0, "target", 2),
        ("a.wav", "test", 1, "source", 3),
        ("a.wav", "test", 0, "", 4),
        ("c.wav", "test", None, "source", 5),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile,a,b\r\nx,1,2\r\ny,3,4\r\n",
        "file;a;b\nx;1;2\n\ny;3;4",
        "File\ta\tb\nx\t1\t2\n\t\t\ny\t3\t4\n",
        '"file","a","b"\n"x","1","2"\n"y"," 3","4 "\n',
    ],
    ids=["BOM and CRLF", "semicolons", "tabs", "quotes"],
)
def test_tables_of_many_programs_are_read(tmp_path: Path, text: str) -> None:
    table = read_table(written(tmp_path, text))
    assert_array_equal(table.values, [[1, 2], [3, 4]])
    assert (table.clips.names, table.columns) == (("x", "y"), ("a", "b"))
    assert {clip.machine for clip in table.clips} == {LONE}


def test_without_split_all_rows_are_for_training_or_as_normal_and_abnormal_folders(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "file,a\nx,1\ny,2\n"))
    assert [(clip.split, clip.label) for clip in table.clips] == [("train", 0)] * 2
    assert "no column 'split', so all rows are taken for normal training rows" in table.clips.notes[0]
    rows = "".join(f"n{i},{i},0\n" for i in range(6)) + "u,9,\nx,7,1\ny,8,1\n"
    table = read_table(written(tmp_path, "file,a,label\n" + rows))
    assert [clip.row for clip in table.clips] == list(range(2, 11))
    assert [clip.split for clip in table.clips].count("train") == 4
    assert [(clip.split, clip.label) for clip in table.clips][6:] == [
        ("test", None),
        ("test", 1),
        ("test", 1),
    ]
    assert "5 rows are tested" in table.clips.notes[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("y,fan,id_00,train,1,,1,2", "column 'label' calls it an anomaly, in split train"),
        ("y,fan,id_00,test,maybe,,1,2", "column 'label' holds 'maybe': give 0 (normal), 1 (anomaly)"),
        ("y,fan,id_00,dev,,,1,2", "column 'split' holds 'dev': give train or test"),
        ("y,fan,id_00,,,,1,2", "column 'split' holds '': give train or test"),
        ("y,fan,id_00,source_test,,target,1,2", "column 'domain' holds 'target'"),
        ("y,fan,id_00,test,,,1", "7 cells, but row 1 has 8: correct the row"),
        ("y,fan,id_00,test,,,1,2,3", "9 cells, but row 1 has 8: correct the row"),
        ("y,fan,id_00,test,,,,2", "column 'a' is empty: give a finite number"),
        ("y,fan,id_00,test,,,nan,-inf", "column 'a' holds nan, and 1 more column such: give a finite"),
        ("y,fan,id_00,test,,,1,-inf", "column 'b' holds -inf: give a finite number"),
        ("y,fan,id_00,test,,,1,hm", "column 'b' holds 'hm': give a finite number"),
        ("y,fan,id_00,test,,,1,1e31", "column 'b' holds 1e+31, beyond 1e+30, too large to sum: scale the column"),
        (",fan,id_00,test,,,1,2", "column 'file' is empty: name the clip"),
    ],
)  # fmt: skip
def test_one_bad_row_is_listed_and_the_others_go_on(tmp_path: Path, row: str, reason: str) -> None:
    path = written(tmp_path, HEADER + GOOD + f"{row}\n" + GOOD.replace("x.wav", "z.wav"))
    table = read_table(path)
    assert table.clips.names == ("x.wav", "z.wav")
    assert_array_equal(table.values, [[1, 2], [1, 2]])
    (error,) = table.clips.rejected
    assert error.path == (row.split(",")[0] or str(path))
    assert error.reason.startswith(f"row 3 of t.csv: {reason}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first row is empty"),
        (HEADER, "has no rows"),
        ("name,a\nx,1\n", "row 1: has no column 'file', the name of each clip; it has 'name', 'a'"),
        ("file,label\nx,0\n", "row 1: has 0 columns of numbers"),
        ("file,a,a\nx,1,2\n", "row 1: 'a' names several columns"),
        ("file,File,a\nx,y,2\n", "row 1: 'file' names several columns"),
        ("file,a,\nx,1,2\n", "row 1: column 3 has no name"),
        (",file,a\n0,x,1\n", "index that pandas wrote"),
        ("Unnamed: 0,file,a\n0,x,1\n", "index that pandas wrote"),
        ("file,a,is_anomaly\nx,1,0\n", "'is_anomaly' may be a label"),
        ("file,a,note\nx,1,hm\ny,1,\n", "column 'note' does not hold one number (row 2: 'hm')"),
        ("file;a\nx;1,5\n", "column 'a' does not hold one number (row 2: '1,5'); remove it, or write numbers with a"),
        ("file,a\nx,1\ny,3\nx,2\nx,2\n", "rows 2 and 4 have the same file, machine and split (x), and so on: 2 rows"),
        ("file,a\nx\ny\n", "not one of 2 rows can be used; the first: x: row 2 of t.csv: 1 cell, but row 1 has 2"),
        ('file,a\nx,1\n"y,2\n', "row 3 is no CSV (unexpected end of data)"),
        ("file,a\nx\0,1\n" + "y" * 200_000, "row 3 is no CSV (field larger than"),
        ("file," + "," * 2**20, "row 1: column 2 has no name"),
        ("file," + ",".join(map(str, range(2**16 + 1))), "has 65537 columns of numbers; give one to 65,536"),
        ("file," + "a" * 2**24, "holds a line of more than 16,777,216 characters"),
    ],
)  # fmt: skip
def test_a_table_that_leaves_doubt_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_what_is_no_text_no_file_or_nowhere_is_refused_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.csv").write_bytes("file,a\nfän,1\n".encode("latin-1"))
    (tmp_path / "utf16.csv").write_bytes("file,a\nfan,1\n".encode("utf-16"))
    for name, message in (
        ("pipe", "a pipe, a device or a folder"), (".", "a pipe, a device or a folder"), ("no.csv", "No such file"),
        ("latin.csv", "CSV as text in UTF-8"), ("utf16.csv", "CSV as text in UTF-8"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message) as caught:
            read_table(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_one_machine_type_alone(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + GOOD + GOOD.replace("fan", "pump") + "y,valve,,train,,,x,2\n")
    table = read_table(path, machine_type="pump")
    assert (table.clips.machine_types, table.clips.rejected) == (("pump",), ())
    with pytest.raises(DataError, match="has no rows of machine type slider; it has fan, pump, valve"):
        read_table(path, machine_type="slider")


def test_npz_has_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    values = np.array([[1, 2], [np.nan, 4], [5, 6]])
    columns, label = np.array(["a", "b"]), np.array([0.0, 0.0, np.nan])
    arrays = {"files": np.array(["x", "y", "z"]), "machine_id": np.array([0, 0, 2])}
    np.savez(path, vectors=values, columns=columns, label=label, **arrays)
    table = read_table(path)
    assert_array_equal(table.values, [[1, 2], [5, 6]])
    assert table.columns == ("a", "b")
    assert [(*clip.machine, clip.row) for clip in table.clips] == [("machine", "0", 0), ("machine", "2", 2)]
    assert [str(error) for error in table.clips.rejected] == [
        "y: row 1 of t.npz: column 'a' holds nan: give a finite number, or leave the row out"
    ]
    files = arrays["files"]
    for wrong, message in (
        ({"files": files.astype(object), "vectors": values}, "without Python objects"),
        ({"files": files[:2], "vectors": values}, "'file' has shape (2,); give one for each of 3 vectors"),
        ({"files": files, "vectors": values[0]}, "'vectors' is float64[2]; give (n_clips, n_features)"),
        ({"files": files, "vectors": values * 1j}, "'vectors' is complex128[3, 2]"),
        ({"files": files}, "'vectors' is float64[0]"),
        ({"vectors": values}, "has no column 'file'"),
        ({"files": files, "vectors": values, "x": files}, "holds 'x'; give arrays named files, vectors"),
        ({"files": files, "vectors": values, "columns": columns[:1]}, "1 names in 'columns' for 2 numbers"),
        ({"files": files, "vectors": values, "columns": np.array(["label", "b"])}, "arrays of their own"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(DataError) as caught:
            read_table(path)
        assert str(path) in str(caught.value)
        assert message in str(caught.value)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read as a table of vectors"):
        read_table(path)


def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "split=test").mkdir()  # no column
    path = tmp_path / "split=test" / "t.parquet"

    def write(**columns: object) -> None:
        parquet.write_table(pa.table(columns), path)

    names = pa.array(["x", "y"])
    write(
        file=names.dictionary_encode(), a=pa.array([1, None], pa.int64()), b=pa.array([0.5, 2], pa.float16())
    )
    table = read_table(path)
    assert_array_equal(table.values, [[1, 0.5]])
    assert (table.columns, table.clips[0].split) == (("a", "b"), "train")
    assert "row 1 of t.parquet: column 'a' holds nan" in str(table.clips.rejected[0])
    for wrong, message in (
        ({"file": names, "v": [[1.0], [2.0]]}, "column 'v' holds list"),
        ({"file": names, "v": names}, "column 'v' holds string, no numbers"),
        ({"file": names, "v": [1, 2], "__index_level_0__": [0, 1]}, "index that pandas wrote"),
        ({"v": [1, 2]}, "has no column 'file'"),
        ({"file": names[:0], "v": pa.array([], pa.float32())}, "has no rows"),
    ):
        write(**wrong)
        with pytest.raises(DataError) as caught:
            read_table(path)
        assert message in str(caught.value)


def test_parquet_without_pyarrow_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        DataError, match=r"needs pyarrow: pip install 'adjax\[parquet\]', or save .* CSV or NPZ"
    ):
        read_table(written(tmp_path, "PAR1 and so on", "t.parquet"))


def test_the_real_tables_read_as_they_are_in_a_second_or_so(shared: Path) -> None:
    for name, shape in (("fan_logmel_0dB", (5550, 128)), ("slider_egemaps", (4094, 88))):
        start = time.perf_counter()
        table = read_table(shared / "data" / "mimii_vectors" / f"{name}.csv")
        assert time.perf_counter() - start < 5  # a fifth of a second on a machine that is not busy
        assert (table.values.shape, table.clips.rejected, len(table.clips.machines)) == (shape, (), 4)


def test_a_wide_table_reads_row_by_row(tmp_path: Path) -> None:
    """Many numbers and a bad row among them; memory is that of the numbers."""
    values = np.random.default_rng(0).normal(size=(300, 2000)).round(5)
    lines = [f"c{i}," + ",".join(map(str, row)) for i, row in enumerate(values.tolist())]
    lines[7] = lines[7].replace("c7,", "c7,x")
    path = written(tmp_path, "file," + ",".join(f"e{i}" for i in range(2000)) + "\n" + "\n".join(lines))
    table = read_table(path)
    assert_allclose(table.values, np.delete(values, 7, axis=0).astype(np.float32))
    assert "row 9 of t.csv: column 'e0' holds 'x" in str(table.clips.rejected[0])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_happens_to_a_file_is_a_table_or_a_data_error(data: st.DataObject) -> None:
    """Bytes changed, cut off or put in, of CSV, NPZ and Parquet: no other error, and no number that is not finite."""
    content = bytearray(data.draw(st.sampled_from(_files())))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        (Path(folder) / "t").write_bytes(content)
        table = read_table(Path(folder) / "t")
        assert table.values.shape == (len(table.clips), len(table.columns) or table.values.shape[1])
        assert np.isfinite(table.values).all()


@functools.cache
def _files() -> list[bytes]:
    npz = io.BytesIO()
    np.savez(npz, files=np.array(["x", "y"]), vectors=np.eye(2), split=np.array(["train", "test"]))
    found = [(HEADER + GOOD + GOOD.replace("x.wav", "y.wav")).encode(), npz.getvalue()]
    with suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        file = io.BytesIO()
        parquet.write_table(pyarrow.table({"file": ["x", "y"], "a": [1.0, 2.0]}), file)
        found.append(file.getvalue())
    return found


def test_columns_too_far_from_zero_for_float32_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=200)
    columns = {"near": unit, "time": 1.7e9 + 60 * np.arange(200), "far": 1.7e9 + unit, "same": 0 * unit + 0.1}
    columns |= {"small": 1e-30 * unit, "large": 1e30 * unit, "shifted": 1e4 + unit}
    path = tmp_path / "t.csv"
    rows = [",".join(["file", *columns])]
    numbers = np.column_stack(list(columns.values())).tolist()
    rows += [f"{i}.wav," + ",".join(map(repr, row)) for i, row in enumerate(numbers)]
    path.write_text("\n".join(rows))
    (_, note) = read_table(path).clips.notes
    assert "t.csv: numbers are kept to 7 digits" in note
    assert "moves in 'far': subtract" in note
