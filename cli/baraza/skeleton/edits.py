"""Changes of Python modules that there are: an import more, a declaration more, an element more. Pure."""

from __future__ import annotations

import ast


class NoSuchPlace(ValueError):
    """The module does not have what is to be changed; it must be changed by hand."""


def with_imports(source: str, *lines: str) -> str:
    """Return the module with these imports, behind the first; ruff sorts them and makes one of those of one module."""
    first = next(node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
    return _inserted(source, _offset(source, first.end_lineno or 1, None), "".join(f"\n{line}" for line in lines))


def with_element(source: str, collection: str, element: str) -> str:
    """Return the module with an element more in the tuple that a name is given, or that a function of it returns.

    Raises NoSuchPlace.
    """
    place = _tuple_of(source, collection)
    last = place.elts[-1]
    offset = _offset(source, last.end_lineno or 1, last.end_col_offset)
    return _inserted(source, offset, f", {element}")


def with_declaration(source: str, declaration: str, *, before: str) -> str:
    """Return the module with a declaration before another one. Raises NoSuchPlace."""
    node = _declared(source, before)
    return _inserted(source, _offset(source, node.lineno, 0), f"{declaration.strip()}\n\n\n")


def with_name_beside(source: str, suffix: str, element: str) -> str:
    """Return the module with an element more in the one tuple whose elements are names with this suffix.

    Raises NoSuchPlace.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple) and node.elts and all(_has_suffix(each, suffix) for each in node.elts):
            last = node.elts[-1]
            return _inserted(source, _offset(source, last.end_lineno or 1, last.end_col_offset), f", {element}")
    raise NoSuchPlace(f"no tuple of names that end in {suffix}")


def _has_suffix(node: ast.expr, suffix: str) -> bool:
    return isinstance(node, ast.Name) and node.id.endswith(suffix)


def _declared(source: str, name: str) -> ast.stmt:
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise NoSuchPlace(f"no declaration of {name}")


def _tuple_of(source: str, name: str) -> ast.Tuple:
    node = _declared(source, name)
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if isinstance(node, ast.FunctionDef):
        returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
        value = returned[-1] if returned else None
    if not isinstance(value, ast.Tuple) or not value.elts:
        raise NoSuchPlace(f"{name} is no tuple")
    return value


def _offset(source: str, line: int, column: int | None) -> int:
    """Return the index of a place in the text; its column counts bytes, as the syntax tree's does. None: the end."""
    lines = source.splitlines(keepends=True)
    before = sum(map(len, lines[: line - 1]))
    here = lines[line - 1].rstrip("\n")
    return before + len(here if column is None else here.encode()[:column].decode())


def _inserted(source: str, offset: int, text: str) -> str:
    return source[:offset] + text + source[offset:]
