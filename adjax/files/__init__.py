"""What is written to disk: whole or not at all, in JSON and CSV that other programs can trust."""

from adjax.files.strict_json import read_json, write_json
from adjax.files.tables import FAILURE_COLUMNS, as_cell, check_table, csv_table, write_failures
from adjax.files.whole import (
    TEMPORARY,
    cannot_write,
    check_regular,
    drop_unfinished,
    errors_name,
    file_name,
    make_folder,
    read_text,
    remove,
    sha256,
    sync_file,
    unfinished,
    uninterrupted,
    whole_file,
)

__all__ = [
    "FAILURE_COLUMNS",
    "TEMPORARY",
    "as_cell",
    "cannot_write",
    "check_regular",
    "check_table",
    "csv_table",
    "drop_unfinished",
    "errors_name",
    "file_name",
    "make_folder",
    "read_json",
    "read_text",
    "remove",
    "sha256",
    "sync_file",
    "unfinished",
    "uninterrupted",
    "whole_file",
    "write_failures",
    "write_json",
]
