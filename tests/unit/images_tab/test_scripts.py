"""The scripts of the pages: modules of their own, each of one purpose, that a page loads as one."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from airflow_gpt_image.plugins.images.page_files import joined
from tests.browser import needs_browser
from tests.gallery.documents import RUN
from tests.gallery.looking import open_page

FOLDER = resources.files("airflow_gpt_image.plugins.images") / "static" / "scripts"
SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}
MOST_LINES = 300

DECLARED = re.compile(r"^(export )?(?:async function|function|const|let) (\w+)", re.MULTILINE)
IMPORTED = re.compile(r'^import (?:\{([^}]*)\} from )?"\./(\w+\.js)";\n', re.MULTILINE)
COMMENT = re.compile(r"^\s*(?://.*|/\*\*.*\*/)$", re.MULTILINE)
KEY = re.compile(r"(?:^\s*|[{,] )\w+:", re.MULTILINE)
NAME = re.compile(r"(?:(?<![\w.])|(?<=\.\.\.))[A-Za-z]\w*")
TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def exported(script: str) -> set[str]:
    return {name for public, name in DECLARED.findall(SCRIPTS[script]) if public}


def imported(script: str) -> dict[str, set[str]]:
    """Return the names that a script imports, by the script that they are of."""
    found = IMPORTED.findall(SCRIPTS[script])
    return {of: set(re.findall(r"\w+", names)) for names, of in found}


def code(script: str) -> str:
    """Return a script without its imports, comments, texts and keys of objects."""
    without = COMMENT.sub("", IMPORTED.sub("", SCRIPTS[script]))
    return KEY.sub("", TEXT.sub('""', without))


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_is_short_and_begins_with_what_it_does(script):
    assert len(SCRIPTS[script].splitlines()) <= MOST_LINES
    assert re.match(r"// [A-Z][^\n]*\.\n\n", SCRIPTS[script])


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_imports_what_it_uses_and_nothing_else(script):
    others = {name: other for other in SCRIPTS if other != script for name in exported(other)}

    needed = set(NAME.findall(code(script))) & set(others)

    named = {name: of for of, names in imported(script).items() for name in names}
    assert named == {name: others[name] for name in needed}


def test_a_name_is_declared_in_one_script_only():
    names = [name for script in SCRIPTS.values() for _, name in DECLARED.findall(script)]

    assert sorted(names) == sorted(set(names))


def test_what_a_script_exports_is_imported_by_another_one():
    wanted = {name for script in SCRIPTS for names in imported(script).values() for name in names}

    assert {name for script in SCRIPTS for name in exported(script)} == wanted


def test_the_joined_script_has_each_one_after_those_that_it_imports():
    whole = joined("scripts", "main.js")
    begins = {script: whole.index(text.splitlines()[0]) for script, text in SCRIPTS.items()}

    for script in SCRIPTS:
        assert all(begins[of] < begins[script] for of in imported(script)), script
    assert not re.search(r"^(import|export) ", whole, re.MULTILINE)


@needs_browser
def test_the_scripts_work_as_modules_of_their_own_too(page, gallery):
    gallery.script = "static/scripts/main.js"

    open_page(page, gallery.page(f"task/shop_pictures/{RUN}/pictures/-1#7-1"))

    page.until("document.querySelector('dialog.panel[open]').innerText.includes('AW26')")
    loaded = {path.rsplit("/", 1)[1] for path, _ in gallery.asked if "/scripts/" in path}
    assert loaded == set(SCRIPTS)
