import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairveil.base.errors import FairveilError
from fairveil.web.workspace import private_folder

_HOLDER = """
import sys, time
from pathlib import Path
from fairveil.web.workspace import private_folder
with private_folder(Path(sys.argv[1])) as folder:
    (folder / "photo").write_text("a face")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def test_only_the_user_may_look_into_the_folder_and_it_is_gone_at_the_end(tmp_path):
    with private_folder(tmp_path / "deep" / "base") as folder:
        (folder / "tab").mkdir()
        (folder / "tab" / "photo").write_text("a face")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.parent.iterdir()] == [".lock"]


def test_a_folder_is_gone_after_an_error_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), private_folder(tmp_path) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path, holder):
    process, left = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (left / "photo").exists()
    with private_folder(tmp_path):
        assert not left.exists()


def test_the_folder_of_a_process_that_lives_is_left_alone(tmp_path, holder):
    _, kept = holder
    with private_folder(tmp_path) as own:
        assert own != kept
    assert (kept / "photo").exists()


def test_a_place_that_cannot_be_written_is_told_of_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FairveilError, match=r"cannot be kept in .*XDG_CACHE_HOME"), private_folder(tmp_path / "file"):
        pass
