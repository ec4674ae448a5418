from milr.companion.compare import pytest_collection_modifyitems  # noqa: F401
