"""Serve the book of a run on this machine only."""

import argparse
import functools
import http.server
import sys

from milr.companion import stage
from milr.companion.profiles import add_arguments, run_of


def main(words: list[str] | None = None) -> int:
    """The command line, which serves until it is interrupted.

    Returns the exit status: 2 if there is no book, or the port can't be had.
    """
    parser = argparse.ArgumentParser(prog="python -m milr.companion.serve", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--port", type=int, default=0, help="0 takes one that is free")
    options = parser.parse_args(words)
    first = stage.page(run_of(options))
    if not first.exists():
        print(f"there is no book at {first}: run `make reproduce` first", file=sys.stderr)
        return 2
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=first.parent)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler)
    except (OSError, OverflowError) as error:
        print(f"port {options.port}: {error}; take another: make serve PORT=0", file=sys.stderr)
        return 2
    with server:
        print(f"http://localhost:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
