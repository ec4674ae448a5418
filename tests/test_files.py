"""Files are written whole or not at all, and locks die with their holder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from milr import files
from milr.paths import ROOT


def test_a_file_that_could_not_be_written_is_the_former_one(tmp_path):
    path = tmp_path / "checkpoint"
    files.replace_text(path, "before")

    def fail(file):
        file.write(b"aft")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.replace_file(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_until_its_holder_dies(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from milr.files import hold\n"
        "with hold(Path(sys.argv[1]), ''): print('holds', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert holder.stdout.readline() == b"holds\n"
    assert files.is_held(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not files.is_held(path)


def test_two_processes_that_write_the_same_file_leave_a_whole_one(tmp_path):
    """Each renames its own temporary; with a common one, one of them would find it gone."""
    script = (
        "import sys; from pathlib import Path; from milr.files import replace_text\n"
        "for _ in range(200): replace_text(Path(sys.argv[1]), sys.argv[2] * 1000)"
    )
    path = tmp_path / "shared.json"
    started = [subprocess.Popen([sys.executable, "-c", script, path, x]) for x in "ab"]
    assert [process.wait() for process in started] == [0, 0]
    assert set(path.read_text()) in ({"a"}, {"b"}) and len(path.read_text()) == 1000
    assert list(tmp_path.iterdir()) == [path]
