"""Every public name says what it is, and what it raises."""

import ast
import builtins
from collections.abc import Iterator

from milr.paths import ROOT

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public() -> list[tuple[str, Named]]:
    """Public functions, classes and methods of the package, each with the place it stands at."""
    found = []
    for path in sorted((ROOT / "milr").rglob("*.py")):
        for name, node in _of(ast.parse(path.read_text()).body):
            found.append((f"{path.relative_to(ROOT)}:{node.lineno} {name}", node))
    return found


def _of(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Named]]:
    for node in body:
        if isinstance(node, Named) and not node.name.startswith("_") and not _is_setter(node):
            yield f"{owner}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _of(node.body, f"{owner}{node.name}.")


def _is_setter(node: Named) -> bool:
    return any(getattr(one, "attr", "") == "setter" for one in node.decorator_list)


def raises(node: Named) -> bool:
    """Whether a function, or the making of a class, raises a built-in error in its own body."""
    if isinstance(node, ast.ClassDef):
        made_by = ("__init__", "__post_init__")
        return any(raises(one) for one in node.body if getattr(one, "name", "") in made_by)
    waiting = list(node.body)
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.Raise):
            error = getattr(one.exc, "func", one.exc)
            if hasattr(builtins, getattr(error, "id", "")):
                return True
        # What a function inside raises, it raises when it is called.
        if not isinstance(one, FUNCTION):
            waiting += ast.iter_child_nodes(one)
    return False


def test_every_public_name_has_a_docstring():
    found = public()
    assert len(found) > 500
    assert [place for place, node in found if not ast.get_docstring(node)] == []


def test_what_raises_an_error_of_its_own_says_so():
    # Also what is caught on the spot: the docstring then says that nothing gets out.
    found = [(place, node) for place, node in public() if raises(node)]
    assert len(found) > 50
    assert [place for place, node in found if "Raises" not in (ast.get_docstring(node) or "")] == []
