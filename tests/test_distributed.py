"""Two processes learn what one learns. This file is also the script that the processes run."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from milr import distributed
from milr.infonce import SeparableCritic, critic_bound

STEPS = 4


class Network(nn.Module):
    """Embeds images; batch norm makes the embeddings depend on the whole batch."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)
        )

    def forward(self, images):
        return self.body(images).mean((2, 3))


class Embeddings(nn.Module):
    """A critic whose forward pass is what data parallelism must see: the embeddings."""

    def __init__(self):
        super().__init__()
        self.critic = SeparableCritic(local=6, representation=5, width=4, hidden=8)

    def forward(self, x, z):
        return self.critic.embed(x, z)


def network_loss(network, images, targets):
    """Cross-entropy of classes by the distance to the mean of all processes' embeddings."""
    embeddings = distributed.gather(network(distributed.share_of(images)))
    targets = distributed.gather(distributed.share_of(targets))
    means = torch.stack([embeddings[targets == k].mean(0) for k in range(3)])
    return nn.functional.cross_entropy(-torch.cdist(embeddings, means).square(), targets)


def critic_loss(embeddings, x, z):
    """InfoNCE, each sample's negatives taken from all processes."""
    u, v = embeddings(distributed.share_of(x), distributed.share_of(z))
    return -critic_bound(embeddings.critic, distributed.gather(u), distributed.gather(v))


def images_and_targets(generator):
    images = torch.randn(12, 3, 9, 9, generator=generator)
    return images * torch.arange(1, 13)[:, None, None, None], torch.arange(12) % 3


def pairs(generator):
    """z, and local features of which the first of three locations tells z."""
    z = torch.randn(8, 5, generator=generator)
    x = torch.randn(8, 3, 6, generator=generator)
    x[:, 0, :5] = z
    return x, z


def train(fabric, module, loss_of, make_batch):
    distributed.synchronise(module)
    module, optimiser = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=0.3))
    losses = []
    batch = make_batch(torch.Generator().manual_seed(1))
    for _ in range(STEPS):
        loss = loss_of(module, *batch)
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    return {"losses": torch.tensor(losses)} | dict(module.state_dict())


def train_both(processes):
    fabric = distributed.make_fabric("cpu", processes)
    torch.manual_seed(0)
    network, embeddings = Network(), Embeddings()
    found = {
        "processes": fabric.world_size,
        "network": train(fabric, network, network_loss, images_and_targets),
        "critic": train(fabric, embeddings, critic_loss, pairs),
    }
    return fabric, found


def assert_same_learning(found, expected):
    assert found["processes"] == 2
    for part in ("network", "critic"):
        assert expected[part]["losses"][-1] < expected[part]["losses"][0]
        for name, value in expected[part].items():
            torch.testing.assert_close(
                found[part][name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def environment():
    # Without OMP_NUM_THREADS each process would take all threads of the machine.
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def test_two_processes_started_by_fabric_run_learn_what_one_learns(tmp_path):
    # That a script starts its second process itself is tested with the network's training.
    out = tmp_path / "found.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fabric_run = "from lightning_fabric.cli import _main; _main()"
    options = ["--accelerator=cpu", "--devices=2", f"--main-port={port}"]
    command = [sys.executable, "-c", fabric_run, "run", *options, __file__, str(out)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert_same_learning(torch.load(out, weights_only=True), train_both(processes=1)[1])


def test_one_process_gathers_and_synchronises_nothing():
    x = torch.randn(3, 2)
    assert distributed.gather(x) is x and distributed.share_of(x) is x
    assert all(
        type(m) is not distributed._BatchNormOfAll
        for m in distributed.synchronise(Network()).modules()
    )


def test_making_a_fabric_leaves_the_number_of_threads():
    before = torch.get_num_threads()
    assert distributed.make_fabric("cpu").world_size == 1
    assert torch.get_num_threads() == before


def test_one_of_several_accelerators_is_the_one_that_was_named(monkeypatch):
    asked = {}
    monkeypatch.setattr(distributed, "devices", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(distributed, "Fabric", lambda **given: asked.update(given))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    distributed.make_fabric("cuda:1")
    assert asked["accelerator"] == "cuda" and asked["devices"] == [1]
    with pytest.raises(ValueError, match="'cuda:2'; this machine has cuda:0 to cuda:1"):
        distributed.make_fabric("cuda:2")
    distributed.make_fabric("cuda")
    assert asked["devices"] == 1
    with pytest.raises(ValueError, match="'cuda:1' for 2 processes.*give 'cuda', or one process"):
        distributed.make_fabric("cuda:1", processes=2)


def test_the_only_device_of_a_kind_may_have_the_number_that_pytorch_gives_it(monkeypatch):
    asked = {}
    monkeypatch.setattr(distributed, "devices", lambda: ("cpu", "mps"))
    monkeypatch.setattr(distributed, "Fabric", lambda **given: asked.update(given))
    for device in ("cpu:0", "mps:0"):
        distributed.make_fabric(device)
        assert asked["accelerator"] == device[:3] and asked["devices"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "abacus"}, "abacus.*auto, cpu"),
        ({"device": "auto:1"}, "'auto:1'; a number goes with cuda alone"),
        ({"device": "cpu:3"}, "'cpu:3'; a number goes with cuda alone"),
        ({"device": "cpu", "processes": 0}, "processes is 0"),
        ({"device": "cpu", "precision": "half"}, "half.*bf16-mixed"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        distributed.make_fabric(**given)


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="batch of 3 .* over 2 processes"):
        distributed.share_of(torch.zeros(3))


if __name__ == "__main__":
    fabric, found = train_both(processes=2)
    if fabric.global_rank == 0:
        torch.save(found, sys.argv[1])
