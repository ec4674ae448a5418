"""A pytest plugin: what nbval does not compare.

stderr is for the person who watches (cache hits, progress bars), and what is drawn or typeset has
its numbers printed beside it.
"""

SKIPPED = (
    "stderr",
    "text/html",
    "image/svg+xml",
    "application/papermill.record/text/plain",  # unrounded; a cell prints what is to be compared
    "application/papermill.record/text/html",
    "application/papermill.record/image/png",
)


def pytest_collection_modifyitems(items):
    """Let the notebooks that nbval collected pass over what is `SKIPPED`, too."""
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare = (*notebook.skip_compare, *SKIPPED)
