"""Explainers of trained networks, on images that a few steps suffice for."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import milr
from milr.data.images import ImageSet, normalise
from milr.models import explainers
from milr.models import train as train_module
from milr.models.explainers import Explaining, explain, parse
from milr.models.settings import SHARP, Training
from milr.paths import ROOT

TINY = Explaining(
    training=Training(
        steps=2, ways=4, per_class=3, warmup=1, validations=1, device="cpu", size=32,
        precision="32-true",
    ),
    steps=2, critic_steps=2, critic_batches=2, members=2, bank=12, ways=4, per_class=3,
)  # fmt: skip


def pictures(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (60, 3, 32, 32), generator=generator, dtype=torch.uint8)
    targets = torch.arange(5).repeat_interleave(12)
    return ImageSet(images, targets, tuple("abcde"), f"pictures {seed}")


SETS = {"train": pictures(0), "validation": pictures(1)}


def test_an_explainer_is_fitted_once_and_found_again(monkeypatch):
    network, made = explain(TINY, SETS)
    asked = normalise(SETS["validation"].images[:4])
    maps = made.explain(asked)
    assert maps.total.shape == maps.decision.shape == (4, 8, 8)
    monkeypatch.setattr(explainers, "_fit", lambda *_: pytest.fail("fitted a second time"))
    _, found = explain(TINY, SETS)
    assert torch.equal(found.explain(asked).decision, maps.decision)


def test_how_the_device_was_asked_for_does_not_count(monkeypatch):
    monkeypatch.setattr("milr.distributed.devices", lambda: ("cpu",))
    monkeypatch.setattr("milr.models.explainers.train", lambda s, sets: _network(s))
    explain(TINY, SETS)
    monkeypatch.setattr(explainers, "_fit", lambda *_: pytest.fail("fitted a second time"))
    on_auto = replace(TINY, training=replace(TINY.training, device="auto"))
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip('"auto" is not the CPU on this machine')
    explain(on_auto, SETS)


def _network(settings):
    from milr.models.prototypical import PrototypicalNetwork

    torch.manual_seed(0)
    return PrototypicalNetwork(settings.backbone, settings.metric).eval(), {}


def test_other_settings_are_fitted_anew():
    _, one = explain(TINY, SETS)
    _, other = explain(replace(TINY, seed=1), SETS)
    weight = "mask.0.last.weight"
    assert not torch.equal(one.state()["inserted"][weight], other.state()["inserted"][weight])


def test_another_network_of_the_same_settings_is_explained_anew(monkeypatch):
    """As after a change of the code that trains it."""
    _, one = explain(TINY, SETS)
    other, _ = _network(TINY.training)
    monkeypatch.setattr("milr.models.explainers.train", lambda *_: (other, {}))
    _, two = explain(TINY, SETS)
    moments = [e.state()["inserted"]["local mean"] for e in (one, two)]
    assert not torch.allclose(*moments)


class Doubled(torch.nn.AdaptiveAvgPool2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_network_of_the_same_weights_and_another_structure_is_explained_anew(monkeypatch):
    network, one = explain(TINY, SETS)
    network.avgpool = Doubled(1).eval()
    two = explainers.explainer_of(network, TINY, SETS["train"])
    assert not torch.allclose(*(e.state()["inserted"]["z mean"] for e in (one, two)))


def test_the_command_line_names_the_networks_settings_and_its_own():
    line = "--network-data birds --network-steps 7 --network-seed 2 --beta 5 --seed 3"
    settings = parse(line.split())
    assert (settings.training.steps, settings.training.seed) == (7, 2)
    assert (settings.beta, settings.seed) == (5.0, 3)
    assert settings.steps == Explaining().steps


@pytest.mark.parametrize("bars", [True, False])
def test_a_bar_is_shown_for_the_mask_and_for_the_critics_unless_it_is_not_wanted(capfd, bars):
    network, _ = _network(TINY.training)
    explainer = milr.MILR(network, "layer1", "avgpool")
    images = [normalise(SETS["train"].images[start : start + 12]) for start in (0, 12)]
    how = {"steps": 2, "critic_steps": 3, "critic_batches": 2, "bank": 12, "moment_batches": 1}
    explainer.fit(images, lambda outputs, _: outputs.square().mean(), progress=bars, **how)
    said = capfd.readouterr()
    for name, steps in (("mask", 2), ("critics", 3)):
        assert (f"fit the {name}: 100%" in said.err) == bars
        assert (f"{steps}/{steps}" in said.err) == bars
    assert said.out == ""


KILLED = """
import os, signal
from milr import fitting
from tests.models.test_explainers import SETS, TINY, explain
descend, calls = fitting._Training.descend, []
def then_die(*arguments):
    descend(*arguments)
    calls.append(1)
    if len(calls) == 3:  # in the middle of the critics
        os.kill(os.getpid(), signal.SIGKILL)
fitting._Training.descend = then_die
explain(TINY, SETS)
"""


def test_a_fit_that_was_killed_is_repaired_by_the_next_run(own_cache, monkeypatch, capfd):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MILR_CACHE": str(own_cache)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not list((own_cache / "explainer").glob("*.json"))
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_fit", lambda *_: pytest.fail("trained again"))
        _, repaired = explain(TINY, SETS)
    assert "fit the critics" in capfd.readouterr().err
    assert len(list((own_cache / "explainer").glob("*.json"))) == 1
    monkeypatch.setenv("MILR_CACHE", str(own_cache / "another"))
    _, whole = explain(TINY, SETS)
    asked = normalise(SETS["validation"].images[:4])
    assert torch.equal(repaired.explain(asked).decision, whole.explain(asked).decision)


def test_the_documented_command_line_and_the_beta_of_the_data_are_understood():
    command = explainers.__doc__.split("python -m milr.models.explainers ")[1].splitlines()[0]
    assert parse(command.split()).beta == 1.0
    for data in ("birds", "cub"):
        assert parse(["--network-data", data]).beta == SHARP[data]


def test_fabric_run_trains_and_fits_what_the_notebooks_then_find(own_cache, monkeypatch):
    words = "--network-device cpu --network-size 32 --network-per-species 12 --network-steps 2 "
    words += "--network-ways 4 --network-per-class 2 --network-warmup 1 --network-validations 1 "
    words += "--ways 4 --per-class 2 --steps 2 --critic-steps 2 --critic-batches 2 --bank 24"
    launcher = [str(Path(sys.executable).with_name("fabric")), "run"]
    started = [*launcher, "--accelerator=cpu", "--devices=2", "milr/models/explainers.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MILR_CACHE": str(own_cache)}
    ended = subprocess.run(
        [*started, *words.split()],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("held out total") == 1
    for module in (explainers, train_module):
        monkeypatch.setattr(module, "_fit", lambda *_: pytest.fail("made again"))
    _, found = explainers.explain(explainers.parse(words.split()))
    assert len(found.history["loss"]) == 2
