"""What MkDocs builds beside the pages: the tutorials from notebooks, and the reference of each room from docstrings.

mkdocs.yml names it; MkDocs calls the functions by their names (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):(?=`)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")


def on_config(config):
    """The rooms' pages stand in the navigation under "Reference"."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.append({"API": [{room: f"reference/api/{room}.md"} for room in _rooms()]})
    return config


def on_files(files, config):
    """Adds the pages that no file in docs/ holds."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = _notebook_page(Path(notebook.abs_src_path))
        files.append(File.generated(config, notebook.src_uri.replace(".ipynb", ".md"), content=text))
    for room, modules in _rooms().items():
        about = ast.get_docstring(ast.parse((ROOT / "bundle" / room / "__init__.py").read_text(encoding="utf-8")))
        text = "\n\n".join([f"# bundle.{room}", ROLE.sub("", about), *(f"::: {module}" for module in modules)])
        files.append(File.generated(config, f"reference/api/{room}.md", content=text + "\n"))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to the notebook lead to its page; files outside of docs/ are named, for they are not among the pages."""
    folder = os.path.dirname(page.file.src_uri)

    def resolved(link):
        target = os.path.normpath(os.path.join(folder, link[2]))
        if target.startswith(".."):
            return link[1]
        return link[0].replace(".ipynb", ".md")

    return LINK.sub(resolved, markdown)


class Docstrings(Extension):
    """Docstrings as they are written here, in the words that griffe's Google style knows."""

    def on_object(self, *, obj, **kwargs):
        """An example is one of "Examples"; roles of Sphinx, such as :class:`X`, become what they mark."""
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub("", text).replace("`~", "`")


def _rooms():
    """Names of modules with docstrings by room, the private ones left out."""
    rooms = {}
    for path in sorted((ROOT / "bundle").rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        documented = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if len(names) < 3 or not documented or any(name.startswith("_") for name in names):
            continue
        rooms.setdefault(names[1], []).append(".".join(names))
    return rooms


def _notebook_page(path):
    """A notebook's cells as Markdown, without outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(_fenced(cell)) for cell in cells)


def _fenced(cell):
    return ["```python\n", *cell["source"], "\n```"] if cell["cell_type"] == "code" else cell["source"]
