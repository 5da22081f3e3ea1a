"""The notebook, run as it stands, beside the penguins."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import cohort
from conftest import EMAIL, PASSWORD, ROOT, Server


def test_the_notebook_runs_and_shows_its_progress(server: Server, client: cohort.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run("login", "--server", server.url, "--email", EMAIL, "--password", PASSWORD)
    monkeypatch.setenv("XDG_CONFIG_HOME", server.environment["XDG_CONFIG_HOME"])
    shutil.copy(ROOT / "Examples/penguins.csv", tmp_path)
    notebook = nbformat.read(ROOT / "clients/python/penguins.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output["data"].get("text/html", "") for output in outputs if "data" in output]
    assert any("<progress" in html and "100% Training completed" in html for html in shown), shown
    assert any("val_accuracy" in html for html in shown)
    assert (tmp_path / "penguins.safetensors").stat().st_size > 1_000
