"""What a page tells people to type works, in the order in which it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adjax.app.cli import OK, main

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_on_vectors_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: dict[str, object] = {}
    blocks = re.findall(r"```(python|sh)\n(.*?)```", (DOCS / "vectors.md").read_text(), re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "sh", "python"]
    for language, text in blocks:
        if language == "python":
            exec(text, seen)
        else:
            assert [main(line.split()[1:]) for line in text.splitlines()] == [OK] * 5
    assert len(seen["result"].scores) == 60
    assert seen["test"].rows.shape == (20, 3)
    assert (tmp_path / "results" / "figures" / "pump_roc.png").exists()
