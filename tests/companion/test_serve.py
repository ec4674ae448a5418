"""What keeps the book from being shown is said in words."""

import socket

import pytest

from milr.companion import serve, stage


@pytest.fixture
def page(tmp_path, monkeypatch):
    page = tmp_path / "book" / "index.html"
    monkeypatch.setattr(stage, "page", lambda run: page)
    return page


def test_without_a_book_it_is_said_how_to_make_one(page, capsys):
    assert serve.main([]) == 2
    assert "run `make reproduce` first" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(page, capsys):
    page.parent.mkdir()
    page.touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 2
    assert f"port {port}: " in capsys.readouterr().err


def test_a_port_that_there_is_none_of_is_said(page, capsys):
    page.parent.mkdir()
    page.touch()
    assert serve.main(["--port", "99999"]) == 2
    assert "port 99999: " in capsys.readouterr().err
