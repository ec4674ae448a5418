"""Files are written whole or not at all, and locks die with their holder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from milr import files
from milr.paths import ROOT


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_that_could_not_be_written_is_the_former_one(tmp_path, durable):
    path = tmp_path / "checkpoint"
    files.replace_text(path, "before")

    def fail(file):
        file.write(b"aft")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.replace_file(path, fail, durable=durable)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_leaves_a_whole_file_also_where_it_does_not_wait(tmp_path):
    path = tmp_path / "results.json"
    code = (
        "import sys; from itertools import count; from pathlib import Path\n"
        "from milr.files import replace_text\n"
        "for n in count(): replace_text(Path(sys.argv[1]), f'{n}\\n' * 100_000, durable=False)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, path])
        while not path.exists():
            assert writer.poll() is None
        writer.kill()
        writer.wait()
        lines = path.read_text().splitlines()
        assert len(lines) == 100_000 and len(set(lines)) == 1
        path.unlink()


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
