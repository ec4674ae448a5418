"""What the tests of trainings share: a cache of their own, and one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Folder of the cache; one thread, so that sums do not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("MILR_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    torch.set_num_threads(threads)
