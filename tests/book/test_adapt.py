"""The code that the pages ask a reader to try."""

import re

import pytest
import torch

from milr.paths import ROOT


@pytest.mark.filterwarnings("ignore:the bottleneck has shut")
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
