"""The documentation says what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_architecture_page_names_every_room():
    """Each module of the package stands in the plan of the house, in the room that it is in."""
    plan = (ROOT / "docs/architecture.md").read_text()
    for module in ROOT.glob("registry/**/*.py"):
        if module.name.startswith("_") or module.parent.name == "config":
            continue
        assert re.search(rf"\b{re.escape(module.name)}\b", plan), f"{module.relative_to(ROOT)} is not in the plan"


def test_the_storage_format_page_draws_the_tree_that_the_code_draws():
    """The picture at the top of layout.py, line by line without its remarks, is in the page."""
    page = (ROOT / "docs/storage-format.md").read_text()
    drawn = re.findall(r"^ +([│├└].*?)(?:  .*)?$", (ROOT / "registry/storage/layout.py").read_text(), re.MULTILINE)
    assert len(drawn) > 12
    for line in drawn:
        assert line.strip() in page, line


def test_every_test_that_the_page_of_pains_names_exists():
    named = re.findall(r"`(\S+\.py)::(test_\w+)`", (ROOT / "docs/pains.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_commands_of_the_readme_exist():
    """`registry serve`, `registry config check`: what people are told to type."""
    import typer.main  # noqa: PLC0415

    from registry.cli import cli  # noqa: PLC0415

    command = typer.main.get_command(cli)
    for words in re.findall(r"\bregistry ((?:serve|config)(?: check)?)\b", (ROOT / "README.md").read_text()):
        found = command
        for word in words.split():
            found = found.get_command(None, word)
            assert found, word
