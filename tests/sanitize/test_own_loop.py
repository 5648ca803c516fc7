"""The example of augmentations in loops of one's own runs as written."""

import runpy
from pathlib import Path


def test_the_example_trains_in_both_loops(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "augment_your_own_loop.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["plain", "accelerated"]
    assert all(0 < float(line.split()[-1]) < 2 for line in lines)
