"""What is kept is found again, and no accident makes it wrong."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from milr import cache
from milr.paths import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "thing"


class Maker:
    def __init__(self, value=None):
        self.value = torch.arange(6.0) if value is None else value
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.value


def process(code, tmp_path, path=ROOT, **keywords):
    environment = {**os.environ, "PYTHONPATH": str(path), "MILR_CACHE": str(tmp_path / "cache")}
    code = "import os, signal, time, torch\nfrom milr import cache\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords,
    )  # fmt: skip


def test_where_only_what_is_kept_is_asked_for_nothing_is_made():
    make = Maker()
    with cache.only_kept(), pytest.raises(cache.NotKeptError, match="thing"):
        cache.cached("thing", {}, make)
    assert make.calls == 0
    kept = cache.cached("thing", {}, make)
    with cache.only_kept():
        assert torch.equal(cache.cached("thing", {}, make), kept)
    assert make.calls == 1


def test_an_entry_is_made_once_and_read_equal(capsys):
    make = Maker({"weights": torch.arange(6.0), "history": [0.5, 0.25], "name": "x"})
    first = cache.cached("thing", {"steps": 3}, make)
    second = cache.cached("thing", {"steps": 3}, make)
    assert make.calls == 1
    assert torch.equal(first["weights"], second["weights"])
    assert first["history"] == second["history"] == [0.5, 0.25]
    said = capsys.readouterr()
    assert "miss: no entry" in said.err and said.err.rstrip().endswith("hit")
    assert said.out == ""


def test_nothing_is_kept_as_well():
    calls = []
    for _ in range(2):
        assert cache.cached("thing", {}, lambda: calls.append(1)) is None
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"steps": 4}}, "config.steps 3 -> 4"),
        ({"config": {"steps": 3, "device": "cuda:1"}}, "device cpu -> cuda"),
        ({"data": "other"}, "data digest -> other"),
    ],
)
def test_a_change_of_any_part_misses_and_is_named(capsys, change, named):
    given = {"config": {"steps": 3}, "data": "digest"}
    make = Maker()
    for arguments in (given, {**given, **change}):
        cache.cached("thing", arguments["config"], make, data=arguments["data"])
    assert make.calls == 2
    assert named in capsys.readouterr().err


def test_a_changed_source_misses_and_is_named(tmp_path, capsys):
    source = tmp_path / "method.py"
    make = Maker()
    for text in ("a = 1\n", "a = 2\n"):
        source.write_text(text)
        cache.cached("thing", {}, make, sources=[source])
    assert make.calls == 2
    assert f"sources.{source}" in capsys.readouterr().err


def test_comments_and_docstrings_of_a_source_do_not_count(tmp_path):
    source = tmp_path / "method.py"
    make = Maker()
    said = '"""Says {0}."""\n\n\ndef f(x):\n    """Gives {0}."""\n    return {1}  # {0}\n'
    for words, value, calls in (("a", "x", 1), ("b", "x", 1), ("b", "2 * x", 2), ("b", '"a"', 3)):
        source.write_text(said.format(words, value))
        cache.cached("thing", {}, make, sources=[source])
        assert make.calls == calls
    source.write_text('def f(x):\n    return "a"\n')
    cache.cached("thing", {}, make, sources=[source])
    assert make.calls == 3, "without any is the same as with some"
    # In the middle of an edit: another text, and no reason to stop.
    source.write_text("def f(x:\n")
    cache.cached("thing", {}, make, sources=[source])
    assert make.calls == 4


def test_only_docstrings_of_python_are_left_out(tmp_path):
    digests = set()
    for name, text in (
        ("a.py", "def f(): ...\n"), ("a.py", "def f(): 1\n"), ("a.py", "def f(): 2\n"),
        ("notes.txt", "a = 1  # one\n"), ("notes.txt", "a = 1  # two\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, ns=(0, len(digests)))
        digests.add(cache.code_digest(tmp_path / name))
    assert len(digests) == 5


def test_two_sources_of_one_name_outside_the_checkout_both_count(tmp_path):
    make = Maker()
    both = [tmp_path / folder / "method.py" for folder in ("one", "other")]
    for source in both:
        source.parent.mkdir()
        source.write_text("a = 1\n")
    for changed in (None, *both):
        if changed:
            changed.write_text("a = 2\n")
        cache.cached("thing", {}, make, sources=both)
    assert make.calls == 3


def test_a_checkout_that_is_reached_by_a_link_is_watched_all_the_same(tmp_path):
    shutil.copytree(ROOT / "milr", tmp_path / "real" / "milr")
    (tmp_path / "link").symlink_to("real")
    code = """
        import milr
        source = cache._files(["milr/maps.py"])[0]
        os.utime(source, (0, 0))
        cache.cached("thing", {}, lambda: torch.ones(1), sources=[source])
        print(milr.__file__)
    """
    reached = process(code, tmp_path, path=tmp_path / "link", cwd=tmp_path)
    out, err = reached.communicate(timeout=60)
    assert out.strip() == str(tmp_path / "link" / "milr" / "__init__.py"), err
    assert "maps.py was changed after this began" in err


def test_the_lock_of_an_open_editor_is_no_source(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "milr", tmp_path / "milr", ignore=ignore)
    # Emacs marks a file that is being edited by a link to nowhere.
    (tmp_path / "milr" / "data" / ".#images.py").symlink_to("somebody@somewhere.1")
    code = """
        import milr.data
        print(len(cache.locate("thing", {}, sources=[milr.data]).parts["sources"]) > 5)
    """
    out, err = process(code, tmp_path, path=tmp_path, cwd=tmp_path).communicate(timeout=60)
    assert out.strip() == "True", err


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_an_entry_that_cannot_be_read_now_stays_where_it_is(folder, monkeypatch, capsys, number):
    make = Maker()
    cache.cached("thing", {}, make)
    entry = cache.locate("thing", {})

    def refuse(path):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_sha256", refuse)
        assert cache.read(entry) is None
    said = capsys.readouterr().err
    assert f"cannot be read now ([Errno {number}]" in said and "damaged" not in said
    cache.cached("thing", {}, make)
    assert make.calls == 1 and not list(folder.glob("*.damaged"))


def test_a_checkpoint_that_cannot_be_read_now_stays_where_it_is(tmp_path, monkeypatch, capsys):
    path = tmp_path / "checkpoint.pt"
    cache.write_checkpoint(path, {"step": 2})

    def refuse(path):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_bytes", refuse)
        assert cache.read_checkpoint(path) is None
    assert "cannot be read now" in capsys.readouterr().err
    assert cache.read_checkpoint(path) == {"step": 2}


def test_only_the_newest_entries_are_read_to_say_why_there_is_none(folder, monkeypatch, capsys):
    monkeypatch.setattr(cache, "_LOOKED_AT", 2)
    for age, steps in enumerate((3, 4, 5, 6)):
        cache.cached("thing", {"steps": steps, "rate": 1}, Maker())
        written = 1_000_000_000 - age
        os.utime(cache.locate("thing", {"steps": steps, "rate": 1}).file(".json"), (0, written))
    capsys.readouterr()
    loads, asked = json.loads, []
    monkeypatch.setattr(cache.json, "loads", lambda text: asked.append(1) or loads(text))
    cache.read(cache.locate("thing", {"steps": 7, "rate": 1}))
    # One more, of a configuration that goes there and back.
    assert len(asked) == 3
    assert "other than the nearest entry in config.steps 3 -> 7" in capsys.readouterr().err


def test_what_other_code_made_than_the_key_says_is_not_kept(capsys):
    # A source of the package that is edited while a notebook runs: what runs is the text before.
    source = ROOT / "milr" / "maps.py"
    written = source.stat()
    make = Maker()
    try:
        os.utime(source, ns=(written.st_atime_ns, written.st_mtime_ns + 1_000_000_000))
        assert torch.equal(cache.cached("thing", {}, make, sources=[source]), make.value)
        assert "maps.py was changed after this began" in capsys.readouterr().err
        cache.cached("thing", {}, make, sources=[ROOT / "milr" / "taps.py"])
        assert capsys.readouterr().err.count("changed") == 0
    finally:
        os.utime(source, ns=(written.st_atime_ns, written.st_mtime_ns))
    cache.cached("thing", {}, make, sources=[source])
    cache.cached("thing", {}, make, sources=[source])
    assert make.calls == 3


def test_an_entry_that_there_is_no_memory_for_stays_where_it_is(folder, monkeypatch):
    make = Maker()
    cache.cached("thing", {}, make)

    def refuse(*_, **__):
        raise RuntimeError("not enough memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", refuse)
        with pytest.raises(RuntimeError, match="not enough memory"):
            cache.cached("thing", {}, make)
    cache.cached("thing", {}, make)
    assert make.calls == 1 and not list(folder.glob("*.damaged"))


def test_a_damaged_entry_where_nothing_may_be_written_is_made_and_not_kept(folder, monkeypatch):
    make = Maker()
    cache.cached("thing", {}, make)
    (content,) = folder.glob("*.pt")
    content.write_bytes(b"no entry")

    def refused(*_):
        raise PermissionError("read only")

    monkeypatch.setattr(os, "replace", refused)
    assert torch.equal(cache.cached("thing", {}, make), make.value)
    assert make.calls == 2 and content.read_bytes() == b"no entry"


def test_another_torch_version_misses(monkeypatch, capsys):
    make = Maker()
    cache.cached("thing", {}, make)
    monkeypatch.setattr(torch, "__version__", "0.1")
    cache.cached("thing", {}, make)
    assert make.calls == 2
    assert "torch" in capsys.readouterr().err


def test_another_version_of_a_library_misses(monkeypatch, capsys):
    make = Maker()
    cache.cached("thing", {}, make)
    others = {**cache.libraries(), "scipy": "0.1"}
    monkeypatch.setattr(cache, "libraries", lambda: others)
    cache.cached("thing", {}, make)
    assert make.calls == 2
    assert "libraries.scipy" in capsys.readouterr().err


def test_a_cache_that_may_only_be_read_gives_what_it_has_and_keeps_nothing(
    folder, monkeypatch, capsys
):
    make = Maker()
    cache.cached("thing", {}, make)

    def refused(path, waiting):
        raise PermissionError(f"no leave to write {path.name}")

    # The superuser, whom tests may run as, can write everywhere.
    monkeypatch.setattr(cache, "hold", refused)
    assert torch.equal(cache.cached("thing", {}, make), make.value) and make.calls == 1
    assert "no leave" not in capsys.readouterr().err
    assert torch.equal(cache.cached("thing", {"other": 1}, make), make.value) and make.calls == 2
    assert "will not be kept: no leave to write" in capsys.readouterr().err
    assert len(list(folder.glob("*.pt"))) == 1


def test_the_number_of_the_device_does_not_matter():
    keys = {cache.locate("thing", {"device": name}).key for name in ("cuda", "cuda:0", "cuda:3")}
    assert len(keys) == 1


def test_a_configuration_that_is_not_plain_is_refused():
    with pytest.raises(TypeError, match="dicts, lists, strings and numbers"):
        cache.cached("thing", {"model": object()}, Maker())


@pytest.mark.parametrize(
    "strange",
    [cache.Entry("a", {}, "b"), lambda: 1, (i for i in "a"), type("Local", (), {})()],
    ids=["what is not read back", "a function", "a generator", "of a class that is nowhere"],
)
def test_a_result_that_could_not_be_read_back_is_refused_and_not_kept(folder, strange):
    with pytest.raises(TypeError, match="can be kept, not dict with something else in it"):
        cache.cached("thing", {}, Maker({"entry": strange}))
    assert not list(folder.glob("*.pt")) and not list(folder.glob("*.json"))


def a_source_that_changed(patch):
    patch.setattr(cache, "_written_anew", lambda file: True)


def a_folder_without_leave_to_write(patch):
    def refuse(path, waiting):
        raise PermissionError("no leave")

    patch.setattr(cache, "hold", refuse)


def a_full_disk(patch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize(
    "refuses", [a_source_that_changed, a_folder_without_leave_to_write, a_full_disk]
)
def test_what_is_not_kept_is_given_as_it_would_be_read(folder, monkeypatch, refuses):
    refuses(monkeypatch)
    sources = [ROOT / "milr" / "maps.py"]
    whole = torch.arange(6.0)
    make = Maker({"part": whole[:2]})
    part = cache.cached("thing", {}, make, sources=sources)["part"]
    whole += 1
    assert part.tolist() == [0, 1], "what is read is nobody else's"
    with pytest.raises(TypeError, match="can be kept, not dict with something else in it"):
        cache.cached("thing", {}, Maker({"function": len}), sources=sources)
    assert not list(folder.glob("*.json"))


def damage_by_truncation(content, note):
    content.write_bytes(content.read_bytes()[:-7])


def damage_by_a_flipped_bit(content, note):
    held = bytearray(content.read_bytes())
    held[len(held) // 2] ^= 4
    content.write_bytes(held)


def damage_by_absence(content, note):
    content.unlink()


def damage_of_the_note(content, note):
    note.write_text(note.read_text()[:-9])


def damage_of_what_the_note_says(content, note):
    held = json.loads(note.read_text())
    held["parts"]["config"]["steps"] = 99
    note.write_text(json.dumps(held))


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_truncation,
        damage_by_a_flipped_bit,
        damage_by_absence,
        damage_of_the_note,
        damage_of_what_the_note_says,
    ],
)
def test_a_damaged_entry_is_said_so_moved_aside_and_made_again(folder, capsys, damage):
    make = Maker()
    cache.cached("thing", {"steps": 3}, make)
    (content,), (note,) = folder.glob("*.pt"), folder.glob("*.json")
    damage(content, note)
    again = cache.cached("thing", {"steps": 3}, make)
    assert make.calls == 2
    assert torch.equal(again, make.value)
    assert "damaged" in capsys.readouterr().err
    assert list(folder.glob("*.damaged"))
    cache.cached("thing", {"steps": 3}, make)
    assert make.calls == 2


def test_a_writer_killed_in_the_middle_leaves_no_entry_and_the_next_run_repairs(tmp_path, folder):
    killed = process(
        """
        def save(made, file):
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        torch.save = save
        cache.cached("thing", {"steps": 3}, lambda: torch.arange(6.0))
        """,
        tmp_path,
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert list(folder.glob("*.part")) and not list(folder.glob("*.json"))
    other = Maker()
    cache.cached("thing", {"steps": 4}, other)
    assert not list(folder.glob("*.part"))
    make = Maker()
    assert torch.equal(cache.cached("thing", {"steps": 3}, make), make.value)
    assert make.calls == 1


def test_a_writer_killed_between_content_and_note_leaves_no_entry(folder, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "replace_text", die)
    with pytest.raises(KeyboardInterrupt):
        cache.cached("thing", {}, Maker())
    monkeypatch.undo()
    monkeypatch.setenv("MILR_CACHE", str(folder.parent))
    make = Maker()
    cache.cached("thing", {}, make)
    assert make.calls == 1


def test_a_full_disk_keeps_nothing_and_loses_nothing(folder, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    make = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert torch.equal(cache.cached("thing", {}, make), make.value)
    assert "could not be kept" in capsys.readouterr().err
    assert {path.suffix for path in folder.iterdir()} == {".lock"}
    cache.cached("thing", {}, make)
    assert make.calls == 2 and list(folder.glob("*.json"))


def test_a_file_size_limit_in_the_middle_of_torch_save_is_survived(tmp_path, folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    limited = process(
        "print(float(cache.cached('thing', {}, lambda: torch.ones(100_000)).sum()))",
        tmp_path,
        preexec_fn=limit,
    )
    out, err = limited.communicate(timeout=60)
    assert limited.returncode == 0, err
    assert out.strip() == "100000.0"
    assert "could not be kept" in err
    assert {path.suffix for path in folder.iterdir()} == {".lock"}


def test_two_processes_at_once_make_an_entry_once(tmp_path):
    code = """
        def make():
            open(f"made-{os.getpid()}", "w")
            time.sleep(1)
            return torch.arange(6.0)
        print(cache.cached("thing", {}, make).sum().item())
    """
    both = [process(code, tmp_path, cwd=tmp_path) for _ in range(2)]
    said = [one.communicate(timeout=60) for one in both]
    assert [out.strip() for out, _ in said] == ["15.0", "15.0"]
    assert len(list(tmp_path.glob("made-*"))) == 1
    assert sum("hit" in err for _, err in said) == 1


def test_scratch_outlives_a_failure_and_goes_with_the_finished_entry():
    def fail():
        (cache.scratch("thing", {"steps": 3}) / "checkpoint").write_text("step 2")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        cache.cached("thing", {"steps": 3}, fail)
    held = cache.scratch("thing", {"steps": 3})
    assert (held / "checkpoint").read_text() == "step 2"
    cache.cached("thing", {"steps": 3}, Maker())
    assert not held.exists()
