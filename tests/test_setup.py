"""One source of dependencies, and a set-up that says what is missing."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from milr.companion import manifest
from milr.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
WANTED = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["book"]
WANTED += PROJECT["dependency-groups"]["dev"]
WANTED += PROJECT["project"]["optional-dependencies"]["peers"]


def locked():
    """The locked versions of each package: more than one if they differ by platform."""
    versions = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


@pytest.mark.parametrize("wanted", WANTED)
def test_every_requirement_is_met_by_the_lock(wanted):
    requirement = Requirement(wanted)
    versions = locked().get(canonicalize_name(requirement.name), [])
    assert versions, f"{requirement.name} is not in requirements.lock: run make lock"
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True), f"locked is {version}"


def test_the_build_of_the_package_itself_is_locked_too():
    (wanted,) = PROJECT["build-system"]["requires"]
    requirement = Requirement(wanted)
    versions = locked()[requirement.name]
    assert all(requirement.specifier.contains(version) for version in versions)


def test_every_locked_version_has_a_hash():
    blocks = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 50
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml", "pyproject.toml"])
def test_no_address_is_written_down(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|--index|--find-links|--extra-index", text)
    assert "git+" not in text


def test_conda_installs_the_lock_for_the_same_pythons():
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    (pip,) = (item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict))
    assert "--requirement requirements.lock" in pip and "--require-hashes" in pip
    (python,) = (item for item in conda if item.startswith("python"))
    given = PROJECT["project"]["requires-python"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(given)
    setup = (ROOT / "milr/companion/setup.sh").read_text()
    (lowest,) = re.findall(r">=([\d.]+)", given)
    assert f"({lowest.replace('.', ', ')}) <= sys.version_info" in setup
    for minor in range(9, 16):
        inside = SpecifierSet(given).contains(f"3.{minor}.99")
        assert (f"python3.{minor}" in setup) == inside


def test_what_runs_now_is_what_is_locked():
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)(?: ; (.*?))? \\$", LOCK, re.MULTILINE)
    for name, version, marker in lines:
        if not marker or Marker(marker).evaluate():
            assert installed.get(canonicalize_name(name)) == version, name


def make(*words):
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("word", "allowed"),
    [
        ("PROFILE=fast", "smoke quick full paper"),
        ("DATA=cats", "birds cub"),
        ("DEVICE=tpu", "auto cpu cuda mps"),
        ("SEED=-1", "whole numbers from 0"),
        ("SEED=1e3", "whole numbers from 0"),
        ("SEED=", "whole numbers from 0"),
        (f"SEED={2**31}", f"too large; allowed are whole numbers from 0 to {2**31 - 1}"),
        (f"SEED={10**30}", "too large"),
        ("NOTEBOOKS=99_none", "there is no 99_none"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(word, allowed):
    done = make("-n", "reproduce", word)
    assert done.returncode == 2
    assert word.split("=")[0] in done.stderr and allowed in done.stderr


def test_a_notebook_that_only_lies_beside_the_chapters_may_not_be_named(tmp_path):
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "Untitled.ipynb").touch()
    words = ["make", "-n", "-f", ROOT / "Makefile", "reproduce", "NOTEBOOKS=Untitled"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stderr
    allowed = re.search(r"there is no Untitled; allowed are: (.*)\.  Stop", said)[1].split()
    assert allowed == [path.stem for path in manifest.notebooks(ROOT)] and len(allowed) > 10


def test_a_checkout_on_windows_has_scripts_that_sh_reads(tmp_path):
    def git(*words):
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    script = tmp_path / "setup.sh"
    shutil.copy(ROOT / "milr/companion/setup.sh", script)
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    for words in ("init", "config core.autocrlf true", "add .", "commit -m one"):
        git(*words.split())
    script.unlink()
    git("checkout", "setup.sh")
    assert b"\r" not in script.read_bytes()


def test_help_lists_every_command_and_is_what_make_alone_does():
    said = make().stdout
    assert said == make("help").stdout
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    listed_commands = re.findall(r"^  ([a-z-]+) ", said, re.MULTILINE)
    assert sorted(listed_commands) == sorted(phony.split())
    for variable in ("PROFILE", "DATA", "SEED", "DEVICE", "NOTEBOOKS", "PYTHON"):
        assert f"  {variable} " in said


@pytest.mark.parametrize(
    ("words", "profile"), [([], "full"), (["DATA=cub", "PROFILE=quick"], "quick")]
)
def test_numbers_are_kept_of_a_full_run_unless_another_is_named(words, profile):
    assert f"--profile {profile} " in make("-n", "keep", *words).stdout


@pytest.mark.parametrize("command", ["reproduce", "test", "book", "validate", "reference", "serve"])
def test_every_command_makes_the_environment_first(tmp_path, command):
    said = make("-n", command, f"VENV={tmp_path / 'none'}").stdout
    assert "setup.sh" in said.splitlines()[0]


def test_what_make_starts_reads_utf_8_wherever_it_runs(monkeypatch):
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    assert make("--eval", "told: ; @echo $$PYTHONUTF8", "told").stdout == "1\n"


@pytest.mark.parametrize("command", ["test", "bench"])
def test_a_checkout_that_was_copied_with_its_environment_runs_its_own_code(
    tmp_path, monkeypatch, command
):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # The environment's python stands for one that knows another checkout.
    fake(tmp_path, "python", 'echo "looks in $PYTHONPATH"')
    done = make("-o", "none/.milr-ready", "VENV=none", command, f"RUN_PYTHON={tmp_path}/python")
    assert f"looks in {ROOT}\n" in done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing can be kept off a core")
def test_as_many_tests_run_at_once_as_there_are_cores_for_them():
    shown = make("-n", "test", f"RUN_PYTHON={sys.executable}").stdout
    counting = re.search(r"-n (\$\(.*\))", shown)
    said = subprocess.run(
        ["sh", "-c", f"echo {counting[1]}"], cwd=ROOT, capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
    ).stdout  # fmt: skip
    assert said == "1\n"


def test_an_environment_whose_python_has_gone_is_made_anew(tmp_path):
    # As after an upgrade of the Python that it was made with: the link then leads nowhere.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / ".milr-ready").touch()
    assert "setup.sh" not in make("-n", "setup", f"VENV={tmp_path}").stdout
    (tmp_path / "bin/python").unlink()
    (tmp_path / "bin/python").symlink_to(tmp_path / "none")
    assert "setup.sh" in make("-n", "setup", f"VENV={tmp_path}").stdout


def test_an_environment_whose_python_became_another_is_made_anew(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / ".milr-ready").touch()
    assert "setup.sh" not in make("-n", "setup", f"VENV={venv}").stdout
    # What an upgrade in place looks like from inside: the folder of packages has the old version.
    (packages,) = venv.glob("lib/python3.*")
    packages.rename(packages.with_name("python3.0"))
    assert "setup.sh" in make("-n", "setup", f"VENV={venv}").stdout
    (venv / "bin/uv").touch(mode=0o755)
    fake(tmp_path, "python3", 'echo "$@" >>"$(dirname "$0")/asked"')
    setup(venv, tmp_path)
    assert f"-m venv {venv}" in (tmp_path / "asked").read_text()


TOOLS = ("dirname", "find", "ls", "mkdir", "mv", "rm", "rmdir", "sleep", "touch")


def start(folder, path, python="", checkout=ROOT):
    """A set-up that finds these tools and what is in `path`, but no Python of this machine's."""
    for name in TOOLS:
        with contextlib.suppress(FileExistsError):
            (path / name).symlink_to(shutil.which(name))
    return subprocess.Popen(
        ["/bin/sh", ROOT / "milr/companion/setup.sh", folder, python],
        cwd=checkout, env={"PATH": str(path)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def end(started):
    out, err = started.communicate(timeout=120)
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def setup(folder, path, python=""):
    return end(start(folder, path, python))


def fake(folder, name, code):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


def test_a_machine_without_a_suitable_python_is_told_what_to_do(tmp_path):
    for name in ("python3", "python3.12"):
        fake(tmp_path, name, "exit 1")
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1
    assert "No Python 3.11, 3.12 or 3.13 was found" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path):
    fake(tmp_path, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1
    assert "python3.12 can't make an environment: its venv or ensurepip" in done.stderr
    assert "python3-venv" in done.stderr


def test_a_given_python_may_have_a_blank_in_its_path(tmp_path):
    folder = tmp_path / "my python"
    folder.mkdir()
    fake(folder, "python", '[ "$2" = venv ] && exit 7; exit 0')
    done = setup(tmp_path / "venv", tmp_path, str(folder / "python"))
    assert done.returncode == 7, done.stderr


def test_a_given_python_of_another_version_is_refused(tmp_path):
    fake(tmp_path, "python2", "exit 1")
    done = setup(tmp_path / "venv", tmp_path, "python2")
    assert done.returncode == 1
    assert "PYTHON=python2 is not a Python 3.11" in done.stderr


def test_an_interrupted_set_up_is_begun_anew(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    (venv / ".milr-unfinished").touch()
    (venv / "half of a package").touch()
    # It gets as far as asking for a new environment, which this python then refuses.
    fake(tmp_path, "python3", '[ "$2" = venv ] && exit 7; exit 0')
    done = setup(venv, tmp_path)
    assert done.returncode == 7, done.stderr
    assert not (venv / "half of a package").exists()
    assert (venv / ".milr-unfinished").exists()
    assert not (tmp_path / "venv.lock").exists()


@pytest.mark.parametrize(
    ("held", "does"), [("bin/python", "exit 1"), ("bin/python", "exit 0"), ("my work", "exit 1")]
)
def test_an_environment_that_somebody_else_made_is_not_removed_or_changed(tmp_path, held, does):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    fake(tmp_path / "venv", held, does)
    fake(tmp_path / "venv", "bin/uv", "exit 9")
    fake(tmp_path, "python3", '[ "$2" = venv ] && exit 7; exit 0')
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1 and (tmp_path / "venv" / held).exists()
    assert f"{tmp_path / 'venv'} is there already, and was not made by make setup" in done.stderr
    assert "Move it away, or remove it" in done.stderr
    assert not (tmp_path / "venv.lock").exists()


@pytest.mark.parametrize("marker", [".milr-ready", None])
def test_an_environment_of_its_own_or_an_empty_folder_is_made_anew(tmp_path, marker):
    (tmp_path / "venv").mkdir()
    if marker:
        (tmp_path / "venv" / marker).touch()
    fake(tmp_path, "python3", '[ "$2" = venv ] && exit 7; exit 0')
    assert setup(tmp_path / "venv", tmp_path).returncode == 7
    assert [path.name for path in (tmp_path / "venv").iterdir()] == [".milr-unfinished"]


@pytest.fixture
def slow(tmp_path):
    """A folder with a Python that notes in "made" what it makes, and waits for "go" before it does.

    It doesn't wait for ever, so that a test that fails ends.
    """
    fake(
        tmp_path,
        "python3",
        f"""
        [ "$2" = venv ] || exit 0
        echo "$3" >>{tmp_path}/made
        polls=0
        until [ -e {tmp_path}/go ] || [ $((polls += 1)) -gt 400 ]; do sleep 0.05; done
        mkdir -p "$3/bin"
        for name in python uv; do
            echo "#!/bin/sh\necho $name >>{tmp_path}/used" >"$3/bin/$name"
            chmod +x "$3/bin/$name"
        done
        """,
    )
    (tmp_path / "chmod").symlink_to(shutil.which("chmod"))
    return tmp_path


def wait_for(path: Path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path} did not come")


def test_the_second_of_two_set_ups_at_once_waits_and_finds_the_work_done(slow):
    venv = slow / "venv"
    first = start(venv, slow)
    wait_for(slow / "made")
    second = start(venv, slow)
    assert f"Process {first.pid} is making the environment" in second.stderr.readline()
    (slow / "go").touch()
    first, second = end(first), end(second)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "waiting" not in second.stderr
    assert (slow / "made").read_text().split() == [str(venv)]
    assert (slow / "used").read_text().split() == ["uv", "uv"]
    assert (venv / ".milr-ready").exists() and not (venv / ".milr-unfinished").exists()
    assert not (slow / "venv.lock").exists()


def test_whoever_waits_goes_on_where_the_first_failed(slow):
    venv = slow / "venv"
    first = start(venv, slow)
    wait_for(slow / "made")
    second = start(venv, slow)
    second.stderr.readline()
    os.killpg(first.pid, signal.SIGTERM)
    assert end(first).returncode == 143
    (slow / "go").touch()
    done = end(second)
    assert done.returncode == 0, done.stderr
    assert (slow / "made").read_text().split() == [str(venv)] * 2
    assert (venv / ".milr-ready").exists() and not (slow / "venv.lock").exists()


def test_the_lock_of_a_set_up_that_was_killed_holds_up_nobody(slow):
    venv = slow / "venv"
    killed = start(venv, slow)
    wait_for(slow / "made")
    os.killpg(killed.pid, signal.SIGKILL)
    end(killed)
    assert (slow / "venv.lock").exists()
    (slow / "go").touch()
    both = [start(venv, slow) for _ in range(2)]
    assert [end(one).returncode for one in both] == [0, 0]
    # Once before it was killed, and once by the one that took the lock over.
    assert (slow / "made").read_text().split() == [str(venv)] * 2
    assert not (slow / "venv.lock").exists()


def test_a_lock_of_a_killed_one_that_had_the_same_number_holds_up_nobody(slow):
    # In a container that begins anew, processes get the numbers that they had before.
    (slow / "go").touch()
    (slow / "setup").symlink_to(ROOT / "milr/companion/setup.sh")
    code = "mkdir venv.lock; : >venv.lock/$$; cp $0/pyproject.toml $0/requirements.lock .; "
    for name in (*TOOLS, "cp"):
        (slow / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["/bin/sh", "-c", code + "exec /bin/sh ./setup venv", ROOT],
        cwd=slow, env={"PATH": str(slow)}, text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (slow / "venv/.milr-ready").exists() and not (slow / "venv.lock").exists()


def test_a_lock_that_is_edited_during_a_set_up_is_installed_next(slow):
    checkout = slow / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "requirements.lock"):
        (checkout / name).touch()
    (slow / "go").touch()
    edit = "sleep 0.1; touch requirements.lock"
    (slow / "python3").write_text((slow / "python3").read_text().replace("/used", f"/used; {edit}"))
    done = end(start(slow / "venv", slow, checkout=checkout))
    assert done.returncode == 0, done.stderr
    ready, lock = slow / "venv/.milr-ready", checkout / "requirements.lock"
    assert ready.stat().st_mtime_ns < lock.stat().st_mtime_ns


def test_a_disk_that_refuses_the_lock_is_said_and_not_waited_for(tmp_path):
    fake(tmp_path, "mkdir", '[ "$1" = -p ] || { echo "$1: No space left on device" >&2; exit 1; }')
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'venv.lock'}: No space left on device\n"


def test_the_tools_that_run_notebooks_do_without_torch():
    code = "import milr.companion.reproduce, milr.companion.run, sys; print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    assert said.strip() == "False"
