"""Tell a person which notebook and cell of how many is running, and for how long."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

_SECONDS_BETWEEN_LINES = 30  # without a terminal, so that a log shows life and stays short


@contextlib.contextmanager
def told(label: str, cells: int, stream=None) -> Iterator[Callable[[int], None]]:
    """Show `label`, the running cell and the time; gives the function that is told the cell.

    What has no cells to count (`cells` = 0) shows only its time.
    On a terminal one line is renewed every second; elsewhere a line is written for each cell,
    and now and then for a cell that takes long.
    """
    stream = stream or sys.stderr
    # Notebooks that run side by side share the terminal, so `schedule` calls it dumb.
    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    start = time.monotonic()
    current = [0]
    done = threading.Event()

    def show() -> None:
        elapsed = clock(time.monotonic() - start)
        where = f"  cell {current[0]}/{cells}" if cells else ""
        line = f"{label}{where}  {elapsed}"
        # Of a line that went on below only the last part would be renewed.
        stream.write(f"\r\x1b[K{line[: _width(stream) - 1]}" if terminal else f"{line}\n")
        stream.flush()

    def tick() -> None:
        while not done.wait(1 if terminal else _SECONDS_BETWEEN_LINES):
            show()

    def reached(cell: int) -> None:
        if cell != current[0]:
            current[0] = cell
            show()

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield reached
    finally:
        done.set()
        ticking.join()  # or it could write once more, behind what comes next
        if terminal:
            stream.write("\r\x1b[K")


def _width(terminal) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:  # it does not tell
        return 80


def clock(seconds: float) -> str:
    """Return a time as people write it, e.g. "2:05"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
