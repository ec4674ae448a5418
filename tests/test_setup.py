"""One source of dependencies, and a set-up that says what is missing."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

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
    # As a person calls it, also when this test was itself started by make.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("word", "allowed"),
    [
        ("PROFILE=fast", "smoke quick full paper"),
        ("DATA=cats", "birds cub"),
        ("DEVICE=tpu", "auto cpu cuda mps"),
        ("SEED=-1", "whole numbers from 0"),
        ("SEED=1e3", "whole numbers from 0"),
        ("SEED=", "whole numbers from 0"),
        ("NOTEBOOKS=99_none", "there is no 99_none"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(word, allowed):
    done = make("-n", "reproduce", word)
    assert done.returncode == 2
    assert word.split("=")[0] in done.stderr and allowed in done.stderr


def test_help_lists_every_command_and_is_what_make_alone_does():
    said = make().stdout
    assert said == make("help").stdout
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    listed_commands = re.findall(r"^  ([a-z-]+) ", said, re.MULTILINE)
    assert sorted(listed_commands) == sorted(phony.split())
    for variable in ("PROFILE", "DATA", "SEED", "DEVICE", "NOTEBOOKS", "PYTHON"):
        assert f"  {variable} " in said


@pytest.mark.parametrize("command", ["reproduce", "test", "book", "validate", "reference", "serve"])
def test_every_command_makes_the_environment_first(tmp_path, command):
    said = make("-n", command, f"VENV={tmp_path / 'none'}").stdout
    assert "setup.sh" in said.splitlines()[0]


def setup(folder, path, python=""):
    return subprocess.run(
        ["/bin/sh", ROOT / "milr/companion/setup.sh", folder, python],
        cwd=ROOT, env={"PATH": str(path)}, capture_output=True, text=True,
    )  # fmt: skip


def fake(folder, name, code):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


def test_a_machine_without_a_suitable_python_is_told_what_to_do(tmp_path):
    for name in ("python3", "python3.12"):
        fake(tmp_path, name, "exit 1")
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1
    assert "No Python 3.11 (from 3.11.4), 3.12 or 3.13 was found" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path):
    fake(tmp_path, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = setup(tmp_path / "venv", tmp_path)
    assert done.returncode == 1
    assert "python3.12 can't make an environment: its venv or ensurepip" in done.stderr
    assert "python3-venv" in done.stderr


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
    for name in ("mkdir", "rm", "touch"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    # It gets as far as asking for a new environment, which this python then refuses.
    fake(tmp_path, "python3", '[ "$2" = venv ] && exit 7; exit 0')
    done = setup(venv, tmp_path)
    assert done.returncode == 7, done.stderr
    assert not (venv / "half of a package").exists()
    assert (venv / ".milr-unfinished").exists()


def test_the_tools_that_run_notebooks_do_without_torch():
    code = "import milr.companion.reproduce, milr.companion.run, sys; print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    assert said.strip() == "False"
