"""The intervention of the how-to: one file, and every command knows it."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import torch

import fairveil
from fairveil.fair.interventions import KINDS, EqualLoss, Outputs, everything, intervention, options

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "intervention.md"
CODE = re.search(r'^```python title="tolerated_gap.py"\n(.*?)^```$', PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[
    1
]
SCRIPT = """
import sys
from fairveil.cli import app
app(sys.argv[1:])
"""


@pytest.fixture
def tolerated_gap(tmp_path, monkeypatch):
    (tmp_path / "tolerated_gap.py").write_text(CODE)
    spec = util.spec_from_file_location("tolerated_gap", tmp_path / "tolerated_gap.py")
    module = util.module_from_spec(spec)
    before = dict(KINDS)
    monkeypatch.setitem(sys.modules, "tolerated_gap", module)
    spec.loader.exec_module(module)
    yield module.ToleratedGap
    KINDS.clear()
    KINDS.update(before)


def test_its_penalty_is_the_gap_above_the_tolerance(tolerated_gap):
    outputs = Outputs(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2)
    assert tolerated_gap(tolerance=0.5).penalty(outputs) == 2.5
    assert tolerated_gap(tolerance=4).penalty(outputs) == 0
    assert tolerated_gap(tolerance=0).loss(outputs) == EqualLoss().loss(outputs)


def test_once_imported_it_is_in_the_registry_with_its_options(tolerated_gap):
    assert [*KINDS].index("tolerated-gap") > [*KINDS].index("label-flipping")  # its source has higher numbers
    one = intervention("tolerated-gap", tolerance=0.25, on="holdout")
    assert one == tolerated_gap(tolerance=0.25, on="holdout")
    assert one.name == "tolerated-gap 1 on holdout above 0.25" and one.baseline() == EqualLoss(weight=0, on="holdout")
    assert [found for found in everything("recognition", better="a", worse="b") if found.kind == one.kind]
    (tolerance,) = [option for option in options() if option.name == "tolerance"]
    assert tolerance.help == "Gap ε between mean losses that costs nothing, 0 to 10; by default 0.05 (tolerated-gap)."
    (weight,) = [option for option in options() if option.name == "weight"]
    assert "disparate-impact, tolerated-gap)" in weight.help


def test_in_the_folder_of_interventions_every_command_knows_it(tmp_path):
    package = tmp_path / "fairveil"
    shutil.copytree(Path(fairveil.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "fair" / "interventions" / "tolerated_gap.py").write_text(CODE)
    asked = ["fair", "train", "synthetic", "--task", "findings", "--group", "sex", "--epochs", "1", "--size", "16"]
    chosen = ["--intervention", "tolerated-gap", "--tolerance", "0.1", "--json", "-o", "model.safetensors"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *asked, *chosen], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["intervention"] == {"kind": "tolerated-gap", "weight": 1.0, "on": "train", "tolerance": 0.1}
    assert "tolerated-gap" in {row["measure"] for row in told["scores"]}
