"""The tutorials run as written: every block headed "shell" or "Python", in order, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairveil import assets

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = Path(__file__).parents[2] / "src"
BLOCK = re.compile(r'^```(bash|python) title="(shell|Python)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEAVES = {
    "protect": ("protected/portrait.png", "receipt.html", "receipt.json"),
    "sanitize": ("rehearsal.html", "rehearsal.json", "model.safetensors"),
    "audit": ("faces.parquet", "audit.html", "audit.json"),
    "fair": ("card.html", "card.json"),
}
"""What each tutorial has made at its end."""
MODELS = {"protect": tuple(assets.CATALOGUE), "audit": ("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "mobilefacenet-192")}


def blocks(name: str) -> list[tuple[str, str]]:
    return [(kind, code) for _, kind, code in BLOCK.findall(page(name))]


def page(name: str) -> str:
    return (DOCS / "tutorials" / f"{name}.md").read_text("utf-8")


def words(text: str) -> list[str]:
    """What is said, without figures, which may differ between machines, and without how it is laid out."""
    return re.findall(r"[^\W\d_]+", text)


def is_said(shown: str, said: str) -> bool:
    """Whether words that a tutorial shows, of which `…` leaves some out, follow each other in what was printed."""
    spoken = f" {' '.join(words(said))} "
    return all(f" {' '.join(words(part))} " in spoken for part in shown.split("…") if part.strip())


@pytest.fixture
def environment(tmp_path):
    """A PATH on which `fairveil` is this very source, run by this very Python."""
    commands = tmp_path / "commands"
    commands.mkdir()
    program = commands / "fairveil"
    program.write_text(f"#!{sys.executable}\nfrom fairveil.cli import main\nmain()\n")
    program.chmod(0o755)
    return os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": "1",
    }


def test_there_is_a_test_for_each_tutorial():
    assert {path.stem for path in (DOCS / "tutorials").glob("*.md")} - {"index"} == LEAVES.keys()


@pytest.mark.parametrize("name", LEAVES)
def test_every_block_of_code_is_run_or_marked_as_long_by_a_prompt(name):
    fences = re.findall(r"^```(.+)$", page(name), re.MULTILINE)
    assert set(fences) <= {'bash title="shell"', 'python title="Python"', "console", "text"}
    assert len(blocks(name)) == sum("title" in fence for fence in fences) > 2


@pytest.mark.parametrize(
    ("shown", "is_there"),
    [
        ("cool is missed 2.7 times as often;\nno difference", True),
        ("… is missed 2.7 times as often … told", True),
        ("warm is missed 2.7 times as often", False),
        ("nobody of warm is missed", False),
    ],
)
def test_what_a_tutorial_shows_is_looked_for_without_its_figures(shown, is_there):
    assert is_said(shown, "- cool is missed 4.3 times as often; no difference can be told.\n") is is_there


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LEAVES)
def test_a_tutorial_runs_as_written(name, tmp_path, environment, needs_models):
    needs_models(*MODELS.get(name, ()))
    folder = tmp_path / "work"
    folder.mkdir()
    said = ""
    for kind, code in blocks(name):
        command = ["bash", "-euo", "pipefail", "-c", code] if kind == "shell" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        said += done.stdout + done.stderr
    said += "".join(
        json.dumps(json.loads(path.read_text("utf-8")), ensure_ascii=False) for path in folder.glob("*.json")
    )
    shown = [part for block in TEXT.findall(page(name)) for part in block.split("\n\n")]
    assert [part for part in shown if not is_said(part, said)] == []
    assert [leaf for leaf in LEAVES[name] if not (folder / leaf).is_file()] == []
