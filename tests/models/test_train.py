"""The training loop, on images that a few steps suffice for. Also the script of other processes."""

import errno
import os
import queue
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from milr import cache
from milr.data.images import ImageSet
from milr.models import tail, ways
from milr.models import train as train_module
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import Training, load_sets, recipe
from milr.models.train import main, train
from milr.paths import ROOT

TINY = Training(
    steps=6, ways=4, per_class=3, warmup=2, lr=1e-3, validations=2, device="cpu", size=32,
    precision="32-true",
)  # fmt: skip


def colours(classes=6, per_class=12, seed=0):
    """Images that differ between classes in colour alone, with noise."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(classes, 3, 1, 1, generator=generator).repeat_interleave(per_class, 0)
    grain = torch.randn(len(colour), 3, 32, 32, generator=generator)
    images = (150 * colour + 50 + 40 * grain).clamp(0, 255).to(torch.uint8)
    targets = torch.arange(classes).repeat_interleave(per_class)
    return ImageSet(images, targets, tuple(map(str, range(classes))), f"colours {seed}")


SETS = {"train": colours(), "validation": colours(seed=1)}


def assert_same_weights(a, b):
    different = [
        name for name, value in a.state_dict().items() if not value.equal(b.state_dict()[name])
    ]
    assert not different


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


def test_the_loss_falls_and_unseen_colours_are_recognised():
    model, history = train(replace(TINY, steps=30, precision="bf16-mixed"), SETS)
    assert sum(history["loss"][-5:]) < 0.7 * sum(history["loss"][:5])
    assert history["validation_step"] == [15, 30]
    assert history["validation_accuracy"][-1] > 0.7
    assert len(history["accuracy"]) == len(history["seconds"]) == 30
    assert not model.training


def test_the_seed_decides_the_weights(own_cache, monkeypatch):
    first, history = train(TINY, SETS)
    monkeypatch.setenv("MILR_CACHE", str(own_cache / "another"))
    second, again = train(TINY, SETS)
    other, _ = train(replace(TINY, seed=1), SETS)
    assert_same_weights(first, second)
    assert without_seconds(history) == without_seconds(again)
    assert not first.conv1.weight.equal(other.conv1.weight)


def test_training_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    train(replace(TINY, steps=1), SETS)
    assert torch.get_rng_state().equal(before)


def test_a_second_training_is_found_in_the_cache(slight, monkeypatch):
    model, history = train(TINY, SETS)
    monkeypatch.setattr(train_module, "_fit", lambda *_: pytest.fail("trained again"))
    again, found = train(replace(TINY, processes=1), SETS)
    assert_same_weights(model, again)
    assert found == history


@pytest.mark.parametrize("change", [{"lr": 2e-3}, {"seed": 5}, {"precision": "bf16-mixed"}])
def test_other_settings_are_trained_anew(slight, monkeypatch, change):
    train(replace(TINY, steps=1), SETS)
    monkeypatch.setattr(train_module, "_fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(replace(TINY, steps=1, **change), SETS)


# Adam's steps are large where a gradient is near 0, so that rounding errors grow; small steps here.
SLOW = replace(TINY, lr=1e-4)


def run_this_file(job, folder):
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "MILR_CACHE": str(folder)}
    command = [sys.executable, __file__, job]
    environment = os.environ | paths | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_killed_training_goes_on_to_the_same_weights(slight, own_cache, monkeypatch, capfd):
    killed = run_this_file("killed", own_cache)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed, history = train(TINY, SETS)
    assert "going on after step 3" in capfd.readouterr().err
    assert not list(own_cache.rglob("checkpoint.pt"))
    monkeypatch.setenv("MILR_CACHE", str(own_cache / "another"))
    whole, expected = train(TINY, SETS)
    assert_same_weights(resumed, whole)
    assert without_seconds(history) == without_seconds(expected)


class Slight(PrototypicalNetwork):
    """One convolution, whose checkpoints are written in no time."""

    def __init__(self, backbone, metric, weights=None):
        nn.Module.__init__(self)
        self.metric, self.dimension = metric, 8
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, images):
        return self.body(images).mean((2, 3))


@pytest.fixture
def slight(monkeypatch):
    """Trainings of a slight network, with a checkpoint after each step."""
    monkeypatch.setattr(train_module, "PrototypicalNetwork", Slight)
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)


def stop_after(steps, folder):
    """Train so many steps and stop in the next; the path of the checkpoint in the cache."""
    make_step, calls = train_module._step, []

    def step_or_stop(*arguments):
        calls.append(arguments)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return make_step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, SETS)
    return next(folder.rglob("checkpoint.pt"))


def assert_ends_as_if_never_stopped(monkeypatch, folder):
    resumed, history = train(TINY, SETS)
    monkeypatch.setenv("MILR_CACHE", str(folder / "another"))
    whole, expected = train(TINY, SETS)
    assert_same_weights(resumed, whole)
    assert without_seconds(history) == without_seconds(expected)


def flip_a_bit_at(share):
    def damage(held):
        place = int(share * (len(held) - 1))
        return held[:place] + bytes([held[place] ^ 4]) + held[place + 1 :]

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda held: b"",
        lambda held: held[:20],
        lambda held: held[:-7],
        flip_a_bit_at(0.0),
        flip_a_bit_at(0.5),
        flip_a_bit_at(1.0),
    ],
    ids=["empty", "hardly begun", "truncated", "bit at 0", "bit in the middle", "bit at the end"],
)
def test_a_damaged_checkpoint_is_moved_aside_and_the_training_begins_anew(
    slight, own_cache, monkeypatch, capfd, damage
):
    checkpoint = stop_after(3, own_cache)
    damaged = damage(checkpoint.read_bytes())
    checkpoint.write_bytes(damaged)
    stop_after(2, own_cache)
    said = capfd.readouterr().err
    assert "checkpoint.pt is damaged (its content was changed)" in said
    assert "going on after" not in said
    assert checkpoint.with_name("checkpoint.pt.damaged").read_bytes() == damaged
    assert_ends_as_if_never_stopped(monkeypatch, own_cache)
    # The checkpoint written since then was whole.
    assert "going on after step 2" in capfd.readouterr().err


def test_two_processes_begin_anew_together_where_a_checkpoint_is_damaged(
    slight, own_cache, monkeypatch
):
    checkpoint = stop_after(2, own_cache)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    ended = run_this_file("two slight processes", own_cache)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stderr.count("checkpoint.pt is damaged") == 1
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_fit", lambda *_: pytest.fail("trained again"))
        _, of_two = train(TINY, SETS)
    monkeypatch.setenv("MILR_CACHE", str(own_cache / "another"))
    _, of_one = train(TINY, SETS)
    assert of_two["loss"] == pytest.approx(of_one["loss"], rel=2e-3)


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(slight, own_cache, monkeypatch, capfd):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoint = stop_after(2, own_cache)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        stop_after(2, own_cache)
    said = capfd.readouterr().err
    assert said.count("no checkpoint could be kept: [Errno 28] No space left on device") == 2
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert_ends_as_if_never_stopped(monkeypatch, own_cache)
    assert "going on after step 2" in capfd.readouterr().err


def test_a_disk_without_room_for_a_folder_does_not_end_the_training(slight, monkeypatch, capfd):
    def refuse_scratch(path, *arguments, **keywords):
        if path.suffix == ".scratch":
            raise OSError(errno.ENOSPC, "No space left on device")
        make_folder(path, *arguments, **keywords)

    make_folder = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", refuse_scratch)
    _, history = train(TINY, SETS)
    assert len(history["loss"]) == TINY.steps
    assert capfd.readouterr().err.count("no checkpoint could be kept") == TINY.steps


def test_two_processes_train_the_same_network_and_one_finds_it(own_cache, monkeypatch):
    ended = run_this_file("two processes", own_cache)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(list(own_cache.rglob("*.pt"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_fit", lambda *_: pytest.fail("trained again"))
        _, of_two = train(SLOW, SETS)
    monkeypatch.setenv("MILR_CACHE", str(own_cache / "another"))
    _, of_one = train(SLOW, SETS)
    assert of_one["loss"][-1] < 0.9 * of_one["loss"][0]
    assert of_two["loss"] == pytest.approx(of_one["loss"], rel=2e-3)


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(FloatingPointError, match="the loss became .*lower lr .*1e\\+30"):
        train(replace(TINY, lr=1e30, steps=4), SETS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 7}, "7 classes .* there are 6"),
        ({"per_class": 13}, "13 different images"),
        ({"per_class": 1}, "per_class is 1; give 2 or more"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"metric": "taxi"}, "taxi.*cosine, euclidean"),
        ({"augmentation": "wild"}, "wild.*mild, strong"),
        ({"precision": "16"}, "16.*bf16-mixed"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        train(replace(TINY, **change), SETS)


@pytest.mark.parametrize("few", [colours(classes=4), colours(per_class=10)])
def test_images_that_cannot_be_validated_with_are_refused_before_the_training(
    slight, monkeypatch, few
):
    monkeypatch.setattr(train_module, "_step", lambda *_: pytest.fail("it has begun"))
    sets = SETS | {"validation": few}
    with pytest.raises(ValueError, match="cannot be validated: .*per_species, now 40.*validations"):
        train(TINY, sets)


def test_without_validations_any_images_will_do(slight):
    sets = SETS | {"validation": colours(classes=4)}
    _, history = train(replace(TINY, steps=1, validations=0), sets)
    assert history["validation_accuracy"] == []


@pytest.mark.parametrize("change", [{"steps": 0}, {"augmentation": "wild"}])
def test_the_other_trainings_refuse_the_same_settings(change):
    images, (name, value) = SETS["train"], *change.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        ways.train(replace(TINY, **change), "episodic", images)
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        tail.train(replace(TINY, **change), images, images.targets[:, None])


class OneOfTwo:
    """Stands for a Fabric of two processes, here threads, which wait ten seconds at most."""

    def __init__(self, is_global_zero, said):
        self.is_global_zero, self.said = is_global_zero, said

    def broadcast(self, message):
        if not self.is_global_zero:
            return self.said.get(timeout=10)
        self.said.put(message)
        return message


def together(place, *make):
    """What both processes return or raise."""
    said = queue.Queue()
    fabrics = [OneOfTwo(first, said) for first in (True, False)]
    with ThreadPoolExecutor(2) as pool:
        calls = zip(fabrics, make, strict=True)
        both = [pool.submit(train_module.once, f, "thing", place, m) for f, m in calls]
        found = [one.exception() or one.result() for one in both]
    assert said.empty()
    return found


def test_the_first_process_looks_up_and_all_make():
    place = {"config": {}}
    assert together(place, lambda: {"a": 1}, lambda: {"a": 2}) == [{"a": 1}, {"a": 2}]
    assert together(place, lambda: 1 / 0, lambda: 1 / 0) == [{"a": 1}, {"a": 1}]


@pytest.mark.parametrize(
    ("config", "made", "kind"),
    [({"a": object()}, {}, TypeError), ({}, {"a": object()}, TypeError)],
    ids=["before it is made", "after it was made"],
)
def test_where_the_first_process_fails_alone_the_others_do_not_wait(config, made, kind):
    first, other = together({"config": config}, lambda: made, lambda: made)
    assert isinstance(first, kind)
    assert isinstance(other, RuntimeError) and "the first process failed with thing" in str(other)


def test_where_all_fail_together_each_says_why():
    first, other = together({"config": {}}, lambda: 1 / 0, lambda: 1 / 0)
    assert isinstance(first, ZeroDivisionError) and isinstance(other, ZeroDivisionError)


def test_a_recipe_can_be_changed_and_suits_its_data():
    changed = recipe("cub", steps=3, world="all")
    assert (changed.data, changed.steps) == ("cub", 3)
    assert recipe("cub").size != recipe("birds").size and recipe("birds") == Training()


def test_unknown_data_is_refused():
    with pytest.raises(ValueError, match="moths.*birds, cub"):
        recipe("moths")
    with pytest.raises(ValueError, match="moths.*birds, cub"):
        load_sets(Training(data="moths"), ("train",))


def test_the_command_line_trains_and_reports_novel_classes(monkeypatch, capsys):
    asked = []

    def some_sets(settings, splits):
        asked.append(settings)
        return {split: colours(seed=k, per_class=20) for k, split in enumerate(splits)}

    monkeypatch.setattr(train_module, "load_sets", some_sets)
    numbers = ["--steps", "2", "--ways", "4", "--seed", "3", "--size", "32"]
    main([*numbers, "--device", "cpu", "--metric", "cosine"])
    assert asked[0] == Training(steps=2, ways=4, seed=3, device="cpu", size=32, metric="cosine")
    printed = capsys.readouterr().out
    assert "2 steps in" in printed and "5-way 1-shot: " in printed and "+-" in printed


@pytest.mark.parametrize("given", [4, 18])
def test_the_command_line_refuses_too_few_novel_images_before_it_trains(monkeypatch, given):
    def few(settings, splits):
        return {split: colours(per_class=settings.per_species) for split in splits}

    monkeypatch.setattr(train_module, "load_sets", few)
    monkeypatch.setattr(train_module, "train", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(ValueError, match=f"novel.*--per-species 20 or more .now {given}"):
        main(["--per-species", str(given), "--validations", "0"])


def _kill_after_the_checkpoint_of_step(step):
    replace_file, calls = cache.replace_file, []

    def then_die(path, fill):
        replace_file(path, fill)
        calls.append(path)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train_module.CHECKPOINT_SECONDS = 0.0
    cache.replace_file = then_die


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "killed":
        train_module.PrototypicalNetwork = Slight
        _kill_after_the_checkpoint_of_step(3)
        train(TINY, SETS)
    if sys.argv[1] == "two slight processes":
        train_module.PrototypicalNetwork = Slight
        train(replace(TINY, processes=2), SETS)
    else:
        train(replace(SLOW, processes=2), SETS)


def test_no_module_beside_a_script_hides_one_of_python():
    """`fabric run milr/models/train.py` puts this folder first on the path."""
    names = {path.stem for path in (ROOT / "milr" / "models").glob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()
