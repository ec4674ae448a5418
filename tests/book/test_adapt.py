"""The code that the pages ask a reader to try."""

import inspect
import re
import shlex

import pytest
import torch

from milr import MILR
from milr.companion.profiles import Run, resolve
from milr.infonce import make_critic
from milr.models import explainers, train
from milr.models.explainers import Explaining
from milr.models.settings import SHARP, recipe
from milr.paths import ROOT


@pytest.mark.filterwarnings("error:the bottleneck has shut")
@pytest.mark.parametrize("page", ["book/adapt.md", "README.md"])
def test_code_of_page_runs_from_top_to_bottom(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = {"__name__": page}
        exec(compile("\n".join(blocks), page, "exec"), names)
    finally:
        torch.set_num_threads(threads)
    maps = names["maps"]
    assert maps.total.shape == maps.capacity.shape == (len(maps), 16, 16)
    assert (maps.capacity >= 0).all()
    assert "torch.Size" in capsys.readouterr().out


def test_what_a_number_of_the_representation_costs_is_what_the_page_says():
    """A weight has a gradient and two moments of Adam beside it, of four bytes each."""
    sizes = (
        sum(p.numel() for p in make_critic("two-layer", 8, width).parameters()) for width in (9, 10)
    )
    before, after = sizes
    said = re.search(
        r"costs about\s+(\d+) kB while these learn", (ROOT / "book/adapt.md").read_text()
    )
    critics = 2 * inspect.signature(MILR).parameters["members"].default
    assert int(said[1]) == round((after - before) * critics * 16 / 1024)


def test_the_launched_commands_make_what_the_paper_profile_looks_for():
    text = (ROOT / "book/rerun.md").read_text().replace("\\\n", " ")
    train_words, explain_words = (
        shlex.split(re.search(rf"milr/models/{name}\.py (.*)", text)[1])
        for name in ("train", "explainers")
    )
    run = Run(profile="paper", data="cub")
    asked = resolve(ROOT / "notebooks/04_milr_module.ipynb", run)
    network = recipe("cub", seed=0, device=asked["device"], **asked["training"])
    assert train.parse(train_words) == network
    sharp = Explaining(network, SHARP["cub"], seed=0, **asked["fit"])
    assert explainers.parse(explain_words) == sharp
