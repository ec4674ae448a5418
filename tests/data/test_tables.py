import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from milr.data import download, sources, tables

CONTENT = b"3.5,8.5,-2.75,-0.5,0\n-1.5,2.25,0.5,1.0,1\n2.5,1.0,0.25,0.75,0\n"
GOOD = ([[1.0, 2.0], [3.0, 5.0], [2.0, 1.0]], [0, 1, 0])


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that sends `server.content`, and the banknotes' entry for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.content, http.asked = CONTENT, 0
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    file = sources.File(
        f"http://127.0.0.1:{http.server_port}/notes.txt",
        "notes.txt",
        "sha256:" + hashlib.sha256(CONTENT).hexdigest(),
    )
    entry = sources.Source(
        "banknote", "Notes", "download", "none", "none", folder="banknote", space=1, files=(file,)
    )
    monkeypatch.setattr(tables, "read", lambda: {"banknote": entry})
    monkeypatch.setattr(download, "WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield http
    http.shutdown()
    http.server_close()


def test_banknotes_are_fetched_once_and_read(server, tmp_path):
    found = tables.banknote(tmp_path)
    assert found.features.tolist()[0] == [3.5, 8.5, -2.75, -0.5]
    assert found.labels.tolist() == [0, 1, 0]
    assert tables.banknote(tmp_path).digest == found.digest
    assert server.asked == 1


def test_banknotes_of_another_digest_are_refused(server, tmp_path):
    server.content = CONTENT.replace(b"8.5", b"8.6")
    with pytest.raises(download.DownloadError, match="set aside"):
        tables.banknote(tmp_path)
    assert not (tmp_path / "banknote/notes.txt").exists()


def test_a_server_that_is_not_there_is_said(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(download.DownloadError, match="does not answer"):
        tables.banknote(tmp_path)


def test_iris_is_the_known_table():
    found = tables.iris()
    assert found.features.shape == (150, 4) and np.bincount(found.labels).tolist() == [50] * 3
    assert found.columns[2] == "petal length" and found.classes[0] == "setosa"


def test_the_drawn_table_has_a_junk_feature_and_one_that_tells():
    found = tables.drawn(seed=1)
    gaps = abs(np.diff([found.features[found.labels == k].mean(0) for k in (0, 1)], axis=0))[0]
    assert gaps[0] > 2 and gaps[3] < 0.5
    assert tables.drawn(seed=1).digest == found.digest != tables.drawn(seed=2).digest


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([[1.0, np.nan], [3.0, 5.0], [2.0, 1.0]], GOOD[1], "1 of 3 rows have missing"),
        ([[1.0, np.inf], [3.0, np.nan], [2.0, 1.0]], GOOD[1], "2 of 3 rows have missing"),
        ([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]], GOOD[1], "feature 'b' is constant"),
        (GOOD[0], [1, 1, 1], "all 3 rows are of class 1"),
        (GOOD[0], [0.0, 0.5, 1.0], "labels are float64.*whole numbers"),
        (GOOD[0], ["no", "yes", "no"], "such as .*'no'.*return_inverse"),
        (GOOD[0], [0.0, np.nan, 1.0], "whole numbers"),
        (GOOD[0], [0, 1, 2], "from 0 to 2 and there are 2 names"),
        (GOOD[0], [-1, 0, 1], "from -1 to 1"),
        (GOOD[0], [0, 1], r"shape \(3, 2\) and labels \(2,\)"),
        ([1.0, 2.0, 3.0], GOOD[1], r"shape \(3,\)"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(features, labels, message):
    assert tables.checked("small", *GOOD, ("a", "b"), ("no", "yes")).labels.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=message) as error:
        tables.checked("small", features, labels, ("a", "b"), ("no", "yes"))
    assert str(error.value).startswith("small: ")


def test_whole_numbers_may_be_written_as_floats():
    assert tables.checked("small", GOOD[0], [0.0, 1.0, 0.0], "ab", "nm").labels.dtype == np.int64


def test_a_feature_that_is_constant_where_it_is_learned_from_is_refused():
    numbers = np.stack([np.arange(40.0), np.eye(40)[0]], axis=1)
    table = tables.checked("rare", numbers, np.arange(40) % 2, ("a", "b"), ("no", "yes"))
    train = [seed for seed in range(9) if 0 not in first_rows(table, seed)]
    assert train
    with pytest.raises(ValueError, match="feature 'b' is constant in the rows to learn from"):
        tables.split(table, train[0])


def first_rows(table, seed):
    """The rows to learn from, of the same table without the rare feature."""
    changed = replace(table, features=table.features[:, :1])
    return tables.split(changed, seed).train


def test_a_split_is_standardised_by_the_rows_to_learn_from():
    found = tables.split(tables.iris(), seed=0)
    assert sorted([*found.train, *found.test]) == list(range(150)) and len(found.train) == 90
    learned = found.features[found.train]
    assert learned.mean(0) == pytest.approx(np.zeros(4), abs=1e-5)
    assert learned.std(0) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.bincount(found.table.labels[found.train]).tolist() == [30] * 3
