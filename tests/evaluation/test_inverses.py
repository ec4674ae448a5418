"""Inverse networks from the cache, and the methods they stand beside."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from milr.data.images import ImageSet
from milr.evaluation import inverses
from milr.evaluation.inverses import Looked
from milr.models.small import little_vgg
from milr.peers.mip_in import InverseNetwork
from milr.peers.peer import Peer
from milr.peers.targets import class_log_probability, class_logit


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def looked():
    torch.manual_seed(0)
    model = little_vgg((3, 16, 16), 4, ((4,), (6,))).eval()
    return Looked("little", model, "3", "6")


def test_maps_of_another_number_or_another_network_are_made_anew(kept, looked):
    images, asked = draw(2, 3, 16, 16), []

    def method(model, x, target):
        asked.append(model)
        return x.mean(1)

    peers = {"grey": Peer("grey", "input", "nothing", method)}
    network = InverseNetwork(looked.model, images[:1], "3")
    tanh = deepcopy(looked.model)
    tanh[1] = nn.Tanh()
    classes = torch.tensor([0, 1])
    for model, target in (
        (looked.model, class_logit(classes)),
        (looked.model, class_logit(classes)),
        (looked.model, class_log_probability(classes)),
        (tanh, class_logit(classes)),
    ):
        inverses.maps_once(model, peers, network, images, target, {})
    assert len(asked) == 3


def test_a_second_fit_is_the_first_one_read_back(kept, looked):
    images = draw(32, 3, 16, 16)
    networks = [InverseNetwork(looked.model, images[:1], "3") for _ in range(2)]
    found = [inverses.fit_once(n, looked.model, images, steps=3) for n in networks]
    assert found[0] == found[1]
    assert all(
        torch.equal(a, b) for a, b in zip(*(n.state_dict().values() for n in networks), strict=True)
    )
    changed = inverses.fit_once(networks[0], looked.model, images, steps=4)
    assert len(changed[0].losses) == 4


def test_a_kept_fit_is_another_one_when_any_file_of_the_method_changes(monkeypatch, looked):
    asked = []

    def look(name, config, make, *, sources, data):
        asked.extend(sources)
        return make()

    monkeypatch.setattr(inverses, "cached", look)
    images = draw(8, 3, 16, 16)
    inverses.fit_once(InverseNetwork(looked.model, images[:1], "3"), looked.model, images, steps=1)
    # A package, of which the cache reads all files; a path would be that of its __init__ alone.
    assert asked == [inverses.mip_in]


def test_all_methods_give_maps_and_scores(kept, looked):
    images = draw(3, 3, 16, 16)
    network = InverseNetwork(looked.model, images[:1], looked.lowest)
    peers = inverses.methods(looked, network, 2, 2)
    classes = inverses.chosen(looked.model, images)
    maps = inverses.maps_once(looked.model, peers, network, images, class_logit(classes), {})
    assert set(inverses.OWN) < set(maps) and set(inverses.NULLS) < set(maps)
    pictures = ImageSet(
        torch.zeros(3, 3, 16, 16, dtype=torch.uint8), classes, tuple("abcd"), "",
        boxes=torch.tensor([[4.0, 4.0, 8.0, 8.0]]).expand(3, -1),
    )  # fmt: skip
    for name, values in maps.items():
        assert values.shape == (3, 16, 16), name
        found = inverses.scores(values, pictures)
        assert set(found) == {"box", "match", "pointing", "outside"}
        assert ((found["box"] >= 0) & (found["box"] <= 1)).all()
    both = inverses.with_sizes(maps, peers)
    assert set(both) - set(maps) == {
        f"{name}, sizes" for name in ("input x gradient", "integrated gradients", "DeepLift", "LRP")
    }
    assert torch.equal(both["LRP, sizes"], maps["LRP"].abs())


def test_a_map_of_single_pixels_can_match_a_box_as_one_of_a_coarse_grid_can():
    pictures = ImageSet(
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ("a",), "",
        boxes=torch.tensor([[16.0, 16.0, 32.0, 32.0]]),
    )  # fmt: skip
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    inside = (rows >= 16) & (rows < 48) & (columns >= 16) & (columns < 48)
    dots = (inside & ((rows + columns) % 2 == 0)).float()[None]
    assert inverses.scores(dots, pictures)["match"].item() == 1
    assert inverses.scores(dots.flip(2).roll(20, 2), pictures)["match"].item() == 0


def test_best_peer_is_neither_ours_nor_a_null():
    values = {"MIP-IN": 0.9, "random": 0.8, "saliency": 0.3, "LRP": 0.4}
    assert inverses.best_peer(values) == "LRP"


def test_forgetting_changes_the_copy_alone(looked):
    before = looked.model[0].weight.clone()
    lost = inverses.forgotten(looked.model, ("11", "9"))
    assert torch.equal(looked.model[0].weight, before) and torch.equal(lost[0].weight, before)
    assert not torch.equal(lost[11].weight, looked.model[11].weight)


def test_barely_changed_images_differ_by_little():
    images = draw(2, 3, 8, 8)
    apart = (inverses.barely_changed(images) - images).std()
    assert 0 < apart < 0.02 * (images.max() - images.min())


def test_large_networks_are_named_and_come_without_weights():
    found = inverses.pretrained("resnet50", torch.device("cpu"), weights=None)
    assert isinstance(found.model, nn.Module) and not found.model.training
    assert inverses.enlarged(torch.zeros(1, 3, 8, 8), 12).shape == (1, 3, 12, 12)
    with pytest.raises(ValueError, match="give one of vgg19, resnet50"):
        inverses.pretrained("alexnet", torch.device("cpu"))
