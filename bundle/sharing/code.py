"""The part of this package that a packed bundle needs, under a package name of its own."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bundle.sharing.errors import PackError

__all__ = ["Code", "names_in"]

PACKAGE = "bundle"
_SOURCES = Path(__file__).resolve().parents[1]
# not what follows a dot: monai.bundle is another package
_NAME = re.compile(rf"(?<![\w.]){PACKAGE}((?:\.\w+)+)")


def names_in(config: Any) -> set[str]:
    """Dotted names of this package that a config's values hold, in ``_target_`` and in expressions.

    >>> sorted(names_in({"_target_": "bundle.networks.ResnetGenerator", "of": ["$monai.bundle.run", 3]}))
    ['bundle.networks.ResnetGenerator']
    """
    if isinstance(config, dict):
        return set().union(*(names_in(value) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(names_in(value) for value in config))
    return {found.group() for found in _NAME.finditer(config)} if isinstance(config, str) else set()


class Code:
    """
    Modules of this package that some names are defined in, with all modules of it that those import.

    ``__init__`` files are not packed, for they import all their neighbours: a name that one of them passes on is taken
    from the module that defines it.

    Args:
        names: such as ``bundle.transforms.BrainOutlined``.
        package: what the package is called where it is packed, such as ``asyndgan_generator_code``.

    Raises:
        PackError: a name that is not there; an import that cannot be rewritten.
    """

    def __init__(self, names: Iterable[str], package: str) -> None:
        self.package = package
        self.modules: dict[str, str] = {}
        self.third_party: set[str] = set()
        self._places = {name: _resolve(name) for name in names}
        waiting = [module for module, _ in self._places.values()]
        while waiting:
            module = waiting.pop()
            if module not in self.modules:
                self.modules[module], imported = self._rewritten(module)
                waiting += imported

    def rewrite(self, text: str) -> str:
        """A text, such as that of a config, with the names as they are where they are packed."""

        def renamed(found: re.Match) -> str:
            module, attributes = self._places.get(found.group()) or _resolve(found.group())
            return ".".join([self._renamed(module), *attributes])

        return _NAME.sub(renamed, text)

    def write(self, folder: Path) -> None:
        """Write the package into a folder; nothing where nothing is needed."""
        for module, text in self.modules.items():
            path = folder.joinpath(*self._renamed(module).split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            for parent in path.relative_to(folder).parents:
                if parent.parts:
                    (folder / parent / "__init__.py").touch()

    def _renamed(self, module: str) -> str:
        return self.package + module.removeprefix(PACKAGE)

    def _rewritten(self, module: str) -> tuple[str, list[str]]:
        """Text of a module for its new place, and the modules of this package that it imports."""
        path = _path(module)
        lines = path.read_text(encoding="utf-8").splitlines()
        imported = []
        # from the end: what is replaced may have another number of lines
        for node in reversed(list(_imports(path))):
            if isinstance(node, ast.Import):
                if any(alias.name.split(".")[0] == PACKAGE for alias in node.names):
                    raise PackError(f"{path}:{node.lineno}: expected `from {PACKAGE}.MODULE import NAME`")
                self._note(alias.name for alias in node.names)
            elif node.level:
                raise PackError(f"{path}:{node.lineno}: relative imports cannot be packed")
            elif node.module and node.module.split(".")[0] != PACKAGE:
                self._note([node.module])
            else:
                places = [(_resolve(f"{node.module}.{alias.name}"), alias) for alias in node.names]
                imported += [place for (place, _), _ in places]
                margin = " " * node.col_offset
                lines[node.lineno - 1 : node.end_lineno] = [
                    margin + _import(self._renamed(place), attributes, alias) for (place, attributes), alias in places
                ]
        return _NAME.sub(lambda found: self.package + found.group(1), "\n".join(lines) + "\n"), imported

    def _note(self, names: Iterable[str]) -> None:
        self.third_party |= {name.split(".")[0] for name in names} - sys.stdlib_module_names


def _imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return iter(sorted((n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)), key=lambda node: node.lineno))


def _import(module: str, attributes: list[str], alias: ast.alias) -> str:
    name = attributes[0] if attributes else module.rpartition(".")[2]
    source = module if attributes else module.rpartition(".")[0]
    return f"from {source} import {name}" + (f" as {alias.asname}" if alias.asname else "")


def _path(module: str) -> Path:
    return _SOURCES.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _resolve(name: str) -> tuple[str, list[str]]:
    """The module that defines a name, and the attributes that lead to it there."""
    parts = name.split(".")
    for end in range(2, len(parts) + 1):
        module = ".".join(parts[:end])
        if _path(module).is_file():
            return module, parts[end:]
        if not _path(module).with_suffix("").is_dir():
            source = _passed_on(".".join(parts[: end - 1]), parts[end - 1])
            if source:
                module, attributes = _resolve(source)
                return module, attributes + parts[end:]
            break
    raise PackError(f"{name}: no module of {PACKAGE} defines it")


def _passed_on(package: str, name: str) -> str | None:
    """What the ``__init__`` of a package imports a name from."""
    for node in _imports(_SOURCES.joinpath(*package.split(".")[1:]) / "__init__.py"):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    return None
