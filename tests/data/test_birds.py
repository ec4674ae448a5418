import itertools
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milr import cache
from milr.data import birds
from milr.data.birds import loading, patterns
from milr.data.birds.drawing import CARRIERS, ID, _fill, majority, regions
from milr.data.birds.paint import _Brush
from milr.data.birds.scene import compose
from milr.data.birds.species import DISTANCE, VALUES
from milr.paths import ROOT

SEEDS = st.integers(0, 2**40)
ALL = [s for split in birds.splits().values() for s in split]
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def near(mask, pixels=2):
    """The mask, and so many pixels around it: one of drawing, one of blur."""
    width = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8)) > 0


def differs(one, other):
    return (one.image != other.image).any(-1) | (one.labels != other.labels)


def carried(part):
    """A part and all that lies on it."""
    on_it = [patch for patch, carriers in CARRIERS.items() if part in carriers]
    return {part}.union(*(carried(patch) for patch in on_it))


# Pictures


@FEW
@given(st.sampled_from(ALL), SEEDS, st.sampled_from([32, 84, 85, 131]))
def test_a_picture_and_its_labels_have_the_same_size_and_known_parts(species, seed, size):
    drawing = birds.generate(species, seed, size)
    assert drawing.image.shape == (size, size, 3) and drawing.image.dtype == np.uint8
    assert drawing.labels.shape == (size, size) and drawing.labels.max() < len(birds.PARTS)
    masks = [drawing.mask(part) for part in birds.PARTS]
    assert (np.sum(masks, axis=0) == 1).all()


def test_the_same_arguments_give_the_same_bytes_and_other_seeds_others():
    one, same, other = (birds.generate(ALL[3], seed) for seed in (7, 7, 8))
    assert not differs(one, same).any()
    assert (one.image != other.image).mean() > 0.9


def test_another_process_draws_the_same_bytes():
    jobs = [(species, 50 + i) for i, species in enumerate(ALL[:4])]
    here, elsewhere = (
        (np.zeros((4, 84, 84, 3), np.uint8), np.zeros((4, 84, 84), np.uint8)) for _ in range(2)
    )
    loading._draw_here(jobs, 84, *here)
    loading._draw_elsewhere(jobs, 84, *elsewhere)
    assert here[0].std() > 10
    assert all((a == b).all() for a, b in zip(here, elsewhere, strict=True))


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="seed=-1 is no seed"):
        empty = np.zeros((1, 84, 84, 3), np.uint8)
        loading._draw_elsewhere([(ALL[0], -1)], 84, empty, empty[..., 0].copy())


def test_a_process_that_dies_before_it_has_its_work_says_why(monkeypatch):
    monkeypatch.setattr(loading, "_WORKER", "import sys; sys.exit('no OpenCV here')")
    empty = np.zeros((50_000, 1, 1, 3), np.uint8)
    with pytest.raises(RuntimeError, match="no OpenCV here"):
        loading._draw_elsewhere([(ALL[0], 1)] * len(empty), 1, empty, empty[..., 0].copy())


def test_a_process_that_ends_early_without_a_word_is_not_believed(monkeypatch):
    monkeypatch.setattr(loading, "_WORKER", "pass")
    empty = np.zeros((1, 84, 84, 3), np.uint8)
    with pytest.raises(RuntimeError, match="ended early"):
        loading._draw_elsewhere([(ALL[0], 1)], 84, empty, empty[..., 0].copy())


def test_a_script_called_birds_in_the_working_folder_is_let_be(tmp_path, monkeypatch):
    (tmp_path / "birds.py").write_text("raise SystemExit('the wrong birds')")
    monkeypatch.chdir(tmp_path)
    image, label = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32), np.uint8)
    loading._draw_elsewhere([(ALL[0], 1)], 32, image, label)
    assert image.std() > 10


def test_a_process_that_says_much_is_not_waited_for_without_end(monkeypatch):
    chatty = "import sys; sys.stderr.write('x' * 500_000); sys.stdout.write('y' * 4096); sys.exit()"
    monkeypatch.setattr(loading, "_WORKER", f"import sys; sys.stdin.read(); {chatty}")
    image, label = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32), np.uint8)
    drawing = threading.Thread(
        target=loading._draw_elsewhere, args=([(ALL[0], 1)], 32, image, label), daemon=True
    )
    drawing.start()
    drawing.join(20)
    assert not drawing.is_alive() and (label == ord("y")).all()


@pytest.mark.parametrize(("given", "allowed"), [("1", 1), ("1,2", 1), ("", None)])
def test_as_many_processes_draw_as_openmp_would_allow(monkeypatch, given, allowed):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every = loading._allowed()
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert loading._allowed() == (allowed or every)


def test_a_larger_picture_shows_the_same_scene():
    for seed in range(5):
        small, large = (birds.generate(ALL[seed], seed, size) for size in (84, 252))
        assert (small.labels == large.labels[1::3, 1::3]).mean() > 0.97
        coarse = cv2.resize(large.image, (84, 84), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(small.image - coarse).mean() < 8


def test_parts_that_define_a_species_are_seen_and_small():
    drawings = [birds.generate(ALL[i % len(ALL)], i) for i in range(200)]
    for part in birds.DEFINING:
        assert np.mean([d.mask(part).sum() >= 20 for d in drawings]) >= 0.95
    assert 0.05 < np.mean([d.mask(*birds.DEFINING).mean() for d in drawings]) < 0.09
    assert 0.15 < np.mean([d.mask(*birds.PARTS[3:]).mean() for d in drawings]) < 0.22


def test_each_pattern_shows_both_colours_on_each_shape():
    frames = {"breast": "body", "wing bar": "wing", "head marking": "head"}
    shares = {}
    for seed in range(600):
        scene = compose(ALL[seed % len(ALL)], seed, {})
        brush = _Brush(scene, regions(scene, 84))
        for part in patterns.PATTERNS:
            colour, pattern, shape = (
                scene.values[f"{part} {which}"] for which in ("colour", "pattern", "shape")
            )
            pixels = brush.pixels(ID[part])
            if pattern != "plain" and len(pixels) > 40:
                at = brush.local(pixels, scene.frames[frames.get(part, part)])
                second = (patterns.patch(part, scene, *at) == patterns.SECOND[colour]).all(1)
                shares.setdefault((part, shape, pattern), []).append(second.mean())
    assert len(shares) == 5 * 4 * 3
    uneven = {looks: np.mean(s) for looks, s in shares.items() if not 0.15 < np.mean(s) < 0.65}
    assert not uneven


def test_where_outlines_of_a_part_overlap_they_are_filled():
    square = np.array([(0.1, 0.1), (0.6, 0.1), (0.6, 0.6), (0.1, 0.6)])
    filled = [np.zeros((40, 40), np.uint8) for _ in range(3)]
    for canvas, outlines in zip(
        filled, ([square], [square + 0.2], [square, square + 0.2]), strict=True
    ):
        _fill(canvas, 7, outlines)
    assert (filled[2] == np.maximum(filled[0], filled[1])).all()


def test_of_four_pixels_the_majority_names_the_part_and_of_halves_the_later():
    for four in itertools.product(range(1, 5), repeat=4):
        counts = np.bincount(four)
        expected = np.flatnonzero(counts == counts.max()).max()
        assert majority(np.array(four, np.uint8).reshape(2, 2)) == expected


# Interventions


@FEW
@given(st.sampled_from(ALL), st.sampled_from(ALL), SEEDS, st.sampled_from(birds.DEFINING))
def test_an_exchanged_part_changes_nothing_outside_it(species, other, seed, part):
    before = birds.generate(species, seed)
    after = birds.generate(species, seed, replace={part: other})
    changed = differs(before, after)
    assert not changed[~near(before.extent(part) | after.extent(part))].any()
    same_look = all(species.values[n] == other.values[n] for n in birds.attributes_of(part))
    assert changed.any() != same_look


@pytest.mark.parametrize(("size", "pixels"), [(419, 2), (420, 3)])
def test_how_far_an_exchange_is_seen_grows_with_large_pictures(size, pixels):
    far = []
    for seed in range(6):
        before = birds.generate(ALL[seed], seed, size)
        after = birds.generate(ALL[seed], seed, size, replace={"beak": ALL[seed + 50]})
        extent = before.extent("beak") | after.extent("beak")
        changed = differs(before, after)
        assert not changed[~near(extent, pixels)].any()
        far.append(changed[~near(extent, 2)].any())
    assert any(far) == (pixels > 2)


@FEW
@given(st.sampled_from(ALL), SEEDS, SEEDS, st.sampled_from(birds.PARTS))
def test_a_part_of_another_seed_changes_nothing_outside_it(species, seed, other, part):
    before = birds.generate(species, seed)
    after = birds.generate(species, seed, replace={part: other})
    region = before.extent(part) | after.extent(part)
    assert not differs(before, after)[~near(region)].any()
    for patch in carried(part) - {part}:
        assert (before.mask(patch) == after.mask(patch)).all()


@FEW
@given(st.sampled_from(ALL), SEEDS, st.sampled_from(birds.PARTS[1:]))
def test_a_removed_part_is_gone_with_what_lies_on_it_and_nothing_else(species, seed, part):
    before = birds.generate(species, seed)
    after = birds.generate(species, seed, remove=(part,))
    assert not after.mask(part).any()
    assert not differs(before, after)[~near(before.extent(*carried(part)))].any()


def test_behind_a_removed_part_is_what_it_lay_on():
    before = birds.generate(ALL[0], 3)
    for patch, carrier in (("wing bar", "wing"), ("head marking", "head")):
        after = birds.generate(ALL[0], 3, remove=(patch,))
        assert (after.labels[before.mask(patch)] == birds.PARTS.index(carrier)).all()


def test_exchanging_all_defining_parts_makes_the_other_species():
    one, other = ALL[0], ALL[50]
    exchanged = birds.generate(one, 9, replace=dict.fromkeys(birds.DEFINING, other))
    assert not differs(exchanged, birds.generate(other, 9)).any()


def test_a_tail_can_be_lent_by_a_species_that_has_one():
    rust, blue = (birds.Species.of("tail", tail_colour=colour) for colour in ("rust", "blue"))
    drawn = [birds.generate(ALL[0], 3, replace={"tail": lender}) for lender in (rust, blue)]
    red, _, violet = (drawn[0].image - drawn[1].image.astype(float))[drawn[0].mask("tail")].mean(0)
    assert red > 50 and violet < -50


# Species


@FEW
@given(st.sampled_from(ALL), st.sampled_from(ALL), SEEDS)
def test_the_species_has_no_say_in_what_does_not_define_it(species, other, seed):
    one, two = birds.generate(species, seed), birds.generate(other, seed)
    region = one.extent(*birds.DEFINING) | two.extent(*birds.DEFINING)
    assert not differs(one, two)[~near(region)].any()


def test_species_are_the_same_in_every_process():
    code = "[[s.codes for s in split] for w in birds.WORLDS for split in birds.splits(w).values()]"
    said = subprocess.run(
        [sys.executable, "-c", f"from milr.data import birds; print({code})"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert said == f"{eval(code)}\n"


@pytest.mark.parametrize("world", birds.WORLDS)
def test_splits_are_disjoint_and_large_enough(world):
    sets = birds.splits(world)
    everyone = [species for split in sets.values() for species in split]
    assert len(set(everyone)) == len(everyone) == len({s.name for s in everyone})
    least = {"train": 80, "validation": 20, "novel": 20} if world == "all" else {"train": 40}
    assert all(len(split) >= least.get(name, 10) for name, split in sets.items())


@pytest.mark.parametrize("world", birds.WORLDS)
def test_every_value_is_as_frequent_in_every_split(world):
    for split in birds.splits(world).values():
        for codes in zip(*(species.codes for species in split), strict=True):
            assert np.bincount(codes, minlength=VALUES).tolist() == [len(split) // VALUES] * VALUES


def test_species_differ_in_at_least_three_attributes():
    pairs = itertools.combinations(ALL, 2)
    assert min(one.distance(other) for one, other in pairs) >= DISTANCE


def test_names_tell_all_combinations_apart_and_words_describe_them():
    looks = itertools.product(range(VALUES), repeat=3)
    planted = {birds.Species("beak", codes) for codes in looks}
    assert len({s.name for s in planted}) == len({s.description for s in planted}) == 64
    hook = birds.Species.of("beak", beak_shape="hook", beak_colour="red", beak_pattern="tipped")
    assert hook.description == "red hook beak, tipped"
    near_it = birds.congeners(ALL[0], 36)
    assert len({s.name for s in (ALL[0], *near_it)}) == 37


def test_a_species_is_the_same_however_its_numbers_are_kept():
    codes = np.array(ALL[7].codes)
    same = birds.Species("all", codes)
    assert same == ALL[7]
    assert birds.picture_seed(0, "train", same, 3) == birds.picture_seed(0, "train", ALL[7], 3)


def test_congeners_are_one_attribute_apart():
    found = birds.congeners(ALL[5], 8, seed=1)
    assert len(set(found)) == 8 and {ALL[5].distance(s) for s in found} == {1}
    assert found == birds.congeners(ALL[5], 8, seed=1) != birds.congeners(ALL[5], 8, seed=2)


@FEW
@given(st.sampled_from(["beak", "tail", "breast"]), SEEDS, st.data())
def test_in_a_planted_world_species_differ_in_one_part_only(world, seed, data):
    species = st.sampled_from(birds.splits(world)["train"])
    a, b = data.draw(species), data.draw(species)
    assert a.defining == (world,)
    one, two = birds.generate(a, seed), birds.generate(b, seed)
    assert not differs(one, two)[~near(one.extent(world) | two.extent(world))].any()
    assert differs(one, two).any() == (a != b)


def test_in_a_planted_world_the_other_parts_vary_within_a_species():
    species = birds.splits("tail")["train"][0]
    colours = [_colour(birds.generate(species, seed), "breast") for seed in range(30)]
    tails = [_colour(birds.generate(species, seed), "tail") for seed in range(30)]
    assert np.std(colours, 0).mean() > 2 * np.std(tails, 0).mean()


def _colour(drawing, part):
    return np.median(drawing.image[drawing.mask(part)], axis=0)


# Wrong input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: birds.generate(s, 0, size=31), "size=31 is too small.*32"),
        (lambda s: birds.generate(s, -1), "seed=-1"),
        (lambda s: birds.generate(s, 0, replace={"bill": s}), "'bill'; allowed: background, "),
        (lambda s: birds.generate(s, 0, replace={"tail": "red"}), "'red' is no seed"),
        (lambda s: birds.generate(s, 0, replace={"tail": s}), "cannot lend its tail"),
        (lambda s: birds.generate(s, 0, remove=("background",)), "allowed: branch"),
        (lambda s: birds.generate(s, 0, remove="beak"), "remove='beak' is one name"),
        (lambda s: birds.generate(s, 0).mask("bill"), "unknown part 'bill'"),
        (lambda s: birds.splits("feet"), "unknown world 'feet'; allowed: all, beak"),
        (lambda s: birds.Species.of(beak_colour="pink"), "'pink'; allowed: yellow, red"),
        (lambda s: birds.Species.of(tail_colour="rust"), "'tail colour'; allowed: beak shape"),
        (lambda s: birds.Species("beak", (0, 1)), "give 3 whole numbers from 0 to 3"),
        (lambda s: birds.Species("beak", (0, 1, 4)), "give 3 whole numbers from 0 to 3"),
        (lambda s: birds.congeners(s, 37), "n=37.*it has 36"),
        (lambda s: birds.load("test", 1), "'test'; allowed: train, validation, novel"),
        (lambda s: birds.load("novel", 0), "per_species=0"),
        (lambda s: birds.load("novel", 1, size=8), "size=8"),
    ],
)
def test_wrong_input_is_refused_with_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call(ALL[0])


# Sets


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))


def test_a_set_holds_every_species_of_its_split_and_is_kept(capfd):
    one = birds.load("novel", 2, world="beak")
    species = birds.splits("beak")["novel"]
    assert one.images.shape == (24, 3, 84, 84) and one.labels.shape == (24, 84, 84)
    assert one.classes == tuple(s.name for s in species)
    assert one.targets.tolist() == [i // 2 for i in range(24)]
    assert one.part_names == birds.PARTS
    seed = birds.picture_seed(0, "novel", species[1], 1)
    expected = birds.generate(species[1], seed).image
    assert (one.images[3].permute(1, 2, 0).numpy() == expected).all()
    again = birds.load("novel", 2, world="beak")
    assert again.digest == one.digest and torch.equal(again.images, one.images)
    assert "hit" in capfd.readouterr().err


def test_a_larger_set_begins_with_the_smaller_and_other_seeds_are_other_sets():
    small, large = (birds.load("novel", n, world="tail", size=32) for n in (1, 2))
    assert torch.equal(small.images, large.images[::2])
    other = birds.load("novel", 1, seed=1, world="tail", size=32)
    assert not torch.equal(other.images, small.images)
    assert len({small.digest, large.digest, other.digest}) == 3


def test_a_set_is_the_same_after_an_edit_of_a_docstring_and_another_after_one_of_code(monkeypatch):
    digests = []
    for digest in ("code", "code", "other code"):
        monkeypatch.setattr(cache, "code_digest", lambda path, d=digest: d)
        digests.append(birds.load("novel", 1, world="tail", size=32).digest)
    assert digests[0] == digests[1] != digests[2]
