"""A small network with what explains it: the same is asked of all, and what was made is kept."""

import dataclasses

import pytest
import torch

from milr import MILR, taps
from milr.data.images import ImageSet, content_digest
from milr.evaluation import cases, fits, measures
from milr.evaluation.questions import ask
from milr.evaluation.sanity import cascade
from milr.evaluation.summary import score
from milr.maps import shared
from milr.models.explainers import Explaining
from milr.models.prototypical import PrototypicalNetwork, embed
from milr.models.settings import recipe
from milr.peers import literal
from milr.peers.peer import Peer

SIZE = 32
FIT = {"steps": 1, "critic_steps": 1, "critic_batches": 1, "moment_batches": 2, "bank": 8}


@pytest.fixture(scope="module", autouse=True)
def in_a_folder_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def image_set():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return ImageSet(
        images,
        torch.arange(6).repeat_interleave(4),
        tuple("abcdef"),
        content_digest(images),
        labels=torch.randint(0, 3, (24, SIZE, SIZE), dtype=torch.uint8, generator=generator),
        part_names=("background", "wing", "tail"),
    )


@pytest.fixture(scope="module")
def one(image_set):
    torch.manual_seed(0)
    network = PrototypicalNetwork().eval()
    batches = [torch.randn(6, 3, SIZE, SIZE) for _ in range(8)]

    def fitted(seed):
        explainer = MILR(network, "layer1", "avgpool", ("layer1", "layer4"), members=1, seed=seed)
        return explainer.fit(batches, lambda out, _: out.square().mean(), progress=False, **FIT)

    questions = ask(image_set.targets, 4, ways=3)
    return cases.case(network, [fitted(0), fitted(1)], image_set, questions)


def test_every_method_is_there_once_and_ours_once_for_each_explainer(one):
    found = cases.methods(one)
    assert {len(row) for name, row in found.items() if name.startswith("MI-LR")} == {2}
    assert {len(row) for name, row in found.items() if not name.startswith("MI-LR")} == {1}
    assert set(cases.SLOW) <= set(found) and "MI-LR refined capacity" in found
    assert all(name == peer.name for name, row in found.items() for peer in row)
    assert len({cases.slug(name) for name in found}) == len(found)


def test_a_finer_explainer_brings_its_total_and_what_is_shared_out_by_it(one):
    batches = [torch.randn(6, 3, SIZE, SIZE) for _ in range(8)]
    fine = MILR(one.network, "relu", "avgpool", members=1).fit(
        batches, lambda out, _: out.square().mean(), progress=False, **FIT
    )
    found = cases.methods(one, fine=fine)
    added = [name for name in found if name not in cases.methods(one)]
    assert added == [cases.FINE, *cases.SHARED.values()]
    assert [len(found[name]) for name in added] == [1, 1, 2, 2]
    assert one.cell == 4
    wanted = [cases.FINE, "MI-LR surprise decision", *added[1:3]]
    maps = cases.maps_of(one, {name: found[name] for name in wanted})
    (total,), (of_total,) = maps[cases.FINE], maps["MI-LR shared total"]
    torch.testing.assert_close(of_total, shared(total, total, 4), rtol=1e-4, atol=1e-6)
    before, after = maps["MI-LR surprise decision"], maps["MI-LR shared decision"]
    for values, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, shared(values, total, 4), rtol=1e-4, atol=1e-6)


def test_maps_are_made_once_and_again_for_another_network(one):
    asked = []

    def method(model, images, target):
        asked.append(len(images))
        return images.mean(1)

    peer = {"grey": [Peer("grey", "input", "nothing", method)]}
    first = cases.maps_of(one, peer)["grey"][0]
    assert torch.allclose(first, one.images.mean(1))
    assert torch.equal(cases.maps_of(one, peer)["grey"][0], first)
    assert asked == [4]
    _, forgetful = next(cascade(one.network, ["layer4"]))
    cases.maps_of(one.on(forgetful), peer)
    assert asked == [4, 4]


def test_maps_are_made_again_for_another_question_of_the_same_images(one, monkeypatch):
    asked = []

    def method(model, images, target):
        asked.append(target.name)
        return images.mean(1)

    def other(embeddings, *_):
        return embeddings.sum(1)

    peer = {"of a question": [Peer("of a question", "input", "nothing", method)]}
    cases.maps_of(one, peer)
    target = dataclasses.replace(one.target, score=other)
    monkeypatch.setattr(cases.Case, "target", target)
    cases.maps_of(one, peer)
    assert len(asked) == 2 and asked[1].endswith("other")


def test_what_was_fitted_makes_other_maps(one):
    def peer(value):
        def method(*_):
            return torch.full((4, 8, 8), value)

        return Peer("fitted", "input", "nothing", method, fitted=f"{value}")

    for value in (1.0, 2.0):
        assert cases.maps_of(one, {"fitted": [peer(value)]})["fitted"][0].mean() == value


def test_a_refined_map_of_another_price_is_another(one, monkeypatch):
    name = "MI-LR refined capacity"
    maps = []
    for beta in (1.0, 50.0):
        priced = one.on(one.network)
        for explainer in priced.explainers:
            monkeypatch.setattr(explainer, "beta", beta)
        row = cases.methods(priced)[name]
        maps.append(cases.maps_of(priced, {name: row})[name][0])
    assert not torch.allclose(*maps)


def test_the_first_questions_stay_what_they_were(one):
    few = one.first(2)
    assert torch.equal(few.images, one.images[:2])
    assert len(few.image_set) <= 2 * (1 + 3)
    outputs = one.embeddings[one.questions.query]
    assert torch.allclose(few.target(outputs[:2]), one.target(outputs)[:2])
    assert torch.allclose(few.on(one.network).embeddings, few.embeddings, atol=1e-4)


def test_the_support_of_another_network_is_its_own(one):
    _, forgetful = next(cascade(one.network, ["layer4"]))
    other = one.on(forgetful)
    assert torch.equal(other.embeddings, embed(forgetful, one.image_set.images))
    assert not torch.allclose(other.target.context[0], one.target.context[0])


def test_all_measures_come_out_for_every_method_and_image(one):
    named = {"random": cases.methods(one)["random"]}
    named["MI-LR capacity"] = cases.methods(one)["MI-LR capacity"]
    maps = cases.maps_of(one, named)
    found = measures.removals(one, maps)
    scores = measures.gathered([found], lambda n, each: measures.after_removal(each))
    assert set(scores) == set(measures.REMOVALS)
    assert scores["keep_5"]["random"].numerators.shape == (1, 1, 4)
    assert scores["keep_5"]["MI-LR capacity"].numerators.shape == (1, 2, 4)
    asked = measures.removals(one, maps, {"noise": (0.1,)})
    few = measures.gathered([asked], lambda n, each: measures.at_shares(each, (0.1,)))
    assert set(few) == {"keep_10", "drop_10"} and asked["random"][0].keys() == {"noise"}
    for key, row in few.items():
        for name, one_score in row.items():
            assert (one_score.numerators == scores[key][name].numerators).all()
    labels = one.image_set.labels[one.questions.query]
    regions = {"defining": labels == 1, "used": labels == 2}
    parts = measures.gathered([maps], lambda n, m: measures.on_parts(m, labels, regions))
    assert set(parts) == set(measures.PARTS)
    assert parts["lift"]["random"].value == pytest.approx(1, abs=0.1)


def test_costs_are_measured_once(one, monkeypatch):
    row = {name: cases.methods(one)[name][0] for name in ("random", "MI-LR capacity")}
    first = measures.costs(one, row, lambda: {"MI-LR capacity": 50.0}, 2)
    assert first["MI-LR capacity"].amortised(100) == first["MI-LR capacity"].seconds + 0.5
    assert first["random"].fit == 0 and first["MI-LR capacity"].memory > 0
    again = measures.costs(one, row, lambda: pytest.fail("fitted again"), 2)
    assert again == first
    monkeypatch.setattr(measures.cost, "measure", lambda methods, *_: {})
    assert measures.costs(one, row, dict, 3) == {}
    assert (
        measures.costs(dataclasses.replace(one, explainers=one.explainers[1:]), row, dict, 2) == {}
    )


def test_an_image_with_large_values_counts_as_much_as_any_other():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 8, 8, generator=generator) + 0.5
    labels = torch.randint(0, 3, (5, 8, 8), generator=generator)
    regions = {"defining": labels == 1, "used": labels == 2}
    louder = maps * torch.tensor([1000.0, 1, 1, 1, 1])[:, None, None]
    plain, loud = (measures.on_parts(m, labels, regions) for m in (maps, louder))
    for key, one in plain.items():
        values = [score([[found]]).value for found in (one, loud[key])]
        assert values[0] == pytest.approx(values[1]), key


def test_a_map_of_the_effects_follows_the_decision(one):
    labels = one.image_set.labels[one.questions.query]
    effect = torch.tensor([0.1, 2.0, 1.0])[:, None].expand(-1, 4)
    found = measures.Exchanged(("background", "wing", "tail"), effect.flip(0), effect, effect)
    table = measures.against_effects(effect[:, 0][labels.long()], labels, found)
    for name, values in measures.by_sums(effect[:, 0][labels.long()], labels, found).items():
        assert torch.equal(values, table[name])
    assert table["decision_mean"].tolist() == pytest.approx([1] * 4)
    assert table["decision_mean_null"].mean() < 0.5
    negative = measures.against_effects(-effect[:, 0][labels.long()], labels, found)
    assert negative["decision_mean"].tolist() == pytest.approx([-1] * 4)
    assert torch.equal(negative["decision_size"], table["decision_size"])
    assert found.used(2) == ["wing", "tail"]


def test_a_readout_is_fitted_once(image_set, one):
    training = dataclasses.replace(recipe("birds"), size=SIZE)
    settings = Explaining(training, ways=3, per_class=2, evidence=("layer1", "layer4"))
    with taps.frozen(one.network):
        found, seconds = fits.readout(settings, one.network, image_set, steps=2)
        again, same = fits.readout(settings, one.network, image_set, steps=2)
    assert same == seconds > 0
    for name, value in found.mask.state_dict().items():
        assert torch.equal(value, again.mask.state_dict()[name])
    maps = cases.maps_of(one, {"r": [cases.methods(one, found)["Readout bottleneck"][0]]})["r"][0]
    assert maps.shape == (4, SIZE, SIZE) and (maps >= 0).all()


def test_the_literal_form_is_fitted_once(image_set, one, monkeypatch):
    training = dataclasses.replace(recipe("birds"), size=SIZE)
    settings = Explaining(training, ways=3, per_class=2, evidence=("layer1", "layer4"))
    explainer = one.explainers[0]
    first, history = fits.literal_form(settings, explainer, image_set, steps=2)
    monkeypatch.setattr(fits.literal, "fit", lambda *_, **__: pytest.fail("fitted again"))
    again, same = fits.literal_form(settings, explainer, image_set, steps=2)
    assert same == history and len(history["loss"]) == 2
    outputs = [literal.through(explainer, module, one.images) for module in (first, again)]
    assert torch.equal(*outputs)


def test_what_the_bottleneck_passes_is_kept_for_each_explainer(one, monkeypatch):
    outputs = [cases.passed(explainer, one.images) for explainer in one.explainers]
    assert not torch.equal(*outputs)
    for explainer, found in zip(one.explainers, outputs, strict=True):
        assert torch.equal(found, explainer.through(one.images))
    monkeypatch.setattr(MILR, "through", lambda *_: pytest.fail("passed again"))
    assert torch.equal(cases.passed(one.explainers[1], one.images), outputs[1])
