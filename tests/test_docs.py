"""The pages for readers: links and anchors resolve, what they name is there, each says first whom it is for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# files of this repository that a page names without a link; what a run or a packed bundle holds is none
NAMED = re.compile(r"`((?:bundle|tests|configs|scripts|examples)/[\w./-]+\.(?:py|yaml|md|json))`")


def name(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """A page without its code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """Anchors of the headings, as GitHub and mkdocs.yml's slugs make them."""
    headings = re.findall(r"^#+ +(.*?)\s*$", prose(path), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_anchors_resolve(page):
    dead = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_dead = not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        if is_dead:
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", [p for p in PAGES if "lab" not in p.parts], ids=name)
def test_files_that_a_page_names_exist(page):
    assert [path for path in NAMED.findall(prose(page)) if not (ROOT / path).exists()] == []


def test_pages_that_the_code_names_exist():
    # a packed bundle has a docs/README.md of its own
    files = [path for room in ("bundle", "configs", "scripts") for path in (ROOT / room).rglob("*")]
    texts = {
        p: p.read_text(encoding="utf-8") for p in files if p.suffix in (".py", ".yaml") and "sharing" not in p.parts
    }
    named = {(name(path), page) for path, text in texts.items() for page in re.findall(r"\bdocs/[\w/-]+\.md", text)}
    assert len(named) > 3
    assert {(path, page) for path, page in named if not (ROOT / page).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_first_line_says_whom_a_page_is_for(page):
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).strip()
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    assert paragraphs[0].startswith("# ")
    assert paragraphs[1].startswith("For ")


def test_the_readme_is_short_and_begins_with_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) < 500
    assert re.findall(r"^    (\S+ \S+)", text, re.MULTILINE)[:2] == ["make demo", "make test"]


def test_every_room_is_on_the_page_of_the_rooms():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "bundle").glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}`" not in page} == set()


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]}
    assert {page for page in pages if page not in nav} == set()
