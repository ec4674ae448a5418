"""A person sees which cell is running, on a terminal and in a log."""

import io
import os
import threading

from milr.companion import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_for_each_cell():
    log = io.StringIO()
    with progress.told("[2/4] birds", 12, log) as reached:
        reached(5)
        reached(5)
        reached(6)
    assert log.getvalue().splitlines() == [
        "[2/4] birds  cell 5/12  0:00", "[2/4] birds  cell 6/12  0:00",
    ]  # fmt: skip


def test_a_terminal_gets_one_line_that_is_renewed_and_cleared(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with progress.told("birds", 2, terminal) as reached:
        reached(1)
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_line_that_is_renewed_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((20, 24)))
    terminal = Terminal()
    with progress.told("[12/13] 12_nif", 40, terminal) as reached:
        reached(33)
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == ["", "[12/13] 12_nif  cel", ""]


def test_what_shows_the_time_has_ended_when_its_line_is_cleared():
    before = threading.active_count()
    for _ in range(20):
        with progress.told("birds", 2, io.StringIO()):
            pass
        assert threading.active_count() == before


def test_a_terminal_that_is_shared_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with progress.told("birds", 2, terminal) as reached:
        reached(1)
    assert terminal.getvalue() == "birds  cell 1/2  0:00\n"


def test_a_time_is_written_as_people_do():
    assert [progress.clock(seconds) for seconds in (0, 59.9, 125)] == ["0:00", "0:59", "2:05"]
