"""Explainers that are fitted several at a time, each in a process of its own."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from milr.models import ahead as ahead_module
from milr.models import explainers
from milr.models.ahead import ahead
from milr.models.explainers import Explaining, explain
from milr.models.settings import Training
from milr.paths import ROOT

TINY = Explaining(
    training=Training(
        steps=2, ways=4, per_class=3, warmup=1, validations=1, device="cpu", size=32,
        per_species=12, precision="32-true",
    ),
    steps=2, critic_steps=2, critic_batches=2, members=2, bank=12, ways=4, per_class=3,
)  # fmt: skip
SEEDS = [replace(TINY, seed=seed) for seed in (0, 1, 2)]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))


def test_what_is_fitted_ahead_is_found_when_asked_for(monkeypatch):
    explain(SEEDS[0])
    assert ahead(SEEDS, workers=2) == 2
    monkeypatch.setattr(explainers, "_fit", lambda *_: pytest.fail("fitted a second time"))
    assert [explain(one)[1].seed for one in SEEDS] == [0, 1, 2]
    assert ahead(SEEDS, workers=2) == 0


@pytest.mark.parametrize(
    ("asked", "workers"),
    [
        (SEEDS, 1),
        (SEEDS[:1], 2),
        ([SEEDS[0]] * 2, 2),
        ([replace(one, training=replace(TINY.training, processes=2)) for one in SEEDS], 2),
    ],
)
def test_nothing_is_started_where_nothing_is_gained(asked, workers, monkeypatch):
    monkeypatch.setattr("milr.models.ahead._start", lambda _: pytest.fail("was started"))
    assert ahead(asked, workers=workers) == 0


def test_a_fit_that_fails_is_told_and_the_others_end(tmp_path, monkeypatch):
    python = tmp_path / "python"
    # The first to come makes the folder, and fails; the second would go on for long.
    python.write_text(
        f"#!/bin/sh\ncat > /dev/null\nmkdir {tmp_path}/first || exec sleep 600\n"
        "sleep 1; echo no room left >&2; exit 3\n"
    )
    python.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(python))
    started = []
    start = ahead_module._start
    monkeypatch.setattr(
        "milr.models.ahead._start", lambda one: started.append(start(one)) or started[-1]
    )
    with pytest.raises(RuntimeError, match="no room left"):
        ahead(SEEDS[:2], workers=2)
    assert sorted(process.returncode for process, _ in started) == [-9, 3]


def test_a_fit_ends_with_the_run_that_asked_for_it(tmp_path):
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c',\n"
        "    'import os; from milr.models.ahead import _end_without;'\n"
        "    f'print(os.getpid(), flush=True); _end_without({os.getpid()})'])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert int(parent.stdout.readline()) != parent.pid
    parent.kill()
    # The pipe ends when the last process that holds it does.
    assert parent.communicate(timeout=60)[0] == ""
