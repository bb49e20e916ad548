"""The README and docs/: they are short enough, say what the code says, and lead somewhere."""

from __future__ import annotations

import re

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api.pricing import CREDITS, usd
from airflow_gpt_image.hooks.gpt_image import GptImageHook
from docs import argument_tables
from tests.snippets import PAGES, PROJECT, README, links, snippets, without_code

README_TEXT = README.read_text(encoding="utf-8")


def heading_ids(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_has_at_most_200_lines():
    assert len(README_TEXT.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    dead = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in heading_ids(file.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("tier", CREDITS)
def test_the_readme_has_the_prices_of_the_code(tier):
    row = (
        rf"^\| `{tier}`[^|]*\| {re.escape(str(CREDITS[tier]))} \| \${re.escape(str(usd(CREDITS[tier])))} \|$"
    )

    assert re.search(row, README_TEXT, re.MULTILINE)


def test_no_measured_figure_stands_in_the_readme_before_performance():
    before, _, performance = README_TEXT.partition("\n## Performance\n")

    assert performance
    assert "\n## " not in performance
    assert re.findall(r"\b\d[\d,.]* ?(?:ms|s|MB|seconds?)\b", without_code(before)) == []


@pytest.mark.parametrize("page", sorted((PROJECT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_tables_of_arguments_are_those_of_signatures_and_docstrings(page):
    text = page.read_text(encoding="utf-8")

    assert argument_tables.write(text) == text, "python docs/argument_tables.py writes them anew"


def test_every_error_is_on_the_page_of_errors():
    page = (PROJECT / "docs" / "errors.md").read_text(encoding="utf-8")
    public = {
        name
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.GptImageError) and not name.startswith("_")
    }

    assert {name for name in public if f"`{name}`" not in page} == set()


def test_every_extra_of_the_connection_is_on_its_page():
    page = (PROJECT / "docs" / "connection.md").read_text(encoding="utf-8")
    extras = set(re.findall(r"``(\w+)``", (GptImageHook.__doc__ or "").partition("**Extra**")[2]))

    assert {name for name in extras if name not in page} == set()


def test_the_page_for_indexes_has_no_link_that_would_be_dead_there():
    page = (PROJECT / "docs" / "package-index.md").read_text(encoding="utf-8")

    assert re.findall(r"\]\([^)]*\)|https?://\S+", page) == ["https://api.aivideoapi.ai`,"]


DAG_FILES = [
    snippet
    for page in PAGES
    for snippet in snippets(page)
    if snippet.kind == "python" and "airflow.sdk" in snippet.text and "import pytest" not in snippet.text
]


@pytest.mark.parametrize("snippet", DAG_FILES, ids=str)
def test_every_dag_on_a_page_is_a_whole_file_that_airflow_reads_without_an_error(snippet, tmp_path):
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "snippet.py").write_text(snippet.text)

    bag = DagBag(str(tmp_path), bundle_name="dags-folder")

    assert bag.import_errors == {}
    assert len(bag.dags) == 1


def test_all_python_on_the_pages_compiles():
    for page in PAGES:
        for snippet in snippets(page):
            if snippet.kind == "python":
                compile(snippet.text, str(snippet), "exec")
