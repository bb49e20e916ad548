"""Whose word an object's address is: the author's, who wrote it down, or that of whoever sent it."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_gpt_image.decorators.gpt_image import gpt_image_batch_task, gpt_image_task
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.task_instance import TaskInstance


@pytest.fixture
def sofa(bucket):
    """A picture in the user's own bucket: its address."""
    bucket.write("sofa.png", b"a picture of a sofa")
    return f"{bucket.destination}/sofa.png"


@pytest.fixture
def root(bucket):
    return f"{bucket.destination}/"


@task
def other():
    """Another task; its result is the sofa's address."""


class Parsed(TaskInstance):
    """A task instance whose operator is made in a DAG, and rendered as Airflow does it."""

    def __init__(self, make, conf):
        super().__init__(self._parsed)
        self.make, self.conf = make, conf
        self.xcoms["other"] = conf

    @property
    def context(self):
        run = SimpleNamespace(run_id=self.run_id, clear_number=self.clears, conf={"reference": self.conf})
        return {**super().context, "dag_run": run}

    def _parsed(self):
        with DAG("d", schedule=None):
            made = self.make()
        operator = getattr(made, "operator", made)
        context = {**self.context, "task": operator, "dag": operator.dag}
        operator.render_template_fields(context)
        rendered = context["task"]  # of a mapped one the operator for this index
        resume = rendered.resume_execution
        return SimpleNamespace(
            execute=lambda given: rendered.execute({**context, **given}),
            execute_complete=lambda given, event: resume("execute_complete", {"event": event}, given),
        )


WAYS = {
    "task_id": "t",
    "poll_interval": 0.05,
    "timeout": 20,
    "retry_delay": timedelta(0),
    "deferrable": False,
}


@pytest.fixture
def sent(api, tmp_path, sofa):
    """Runs a task; the names of the reference images that the API was sent."""
    api.settings(duration=0.05)

    def sent(make):
        Parsed(lambda: make({**WAYS, "destination": str(tmp_path / "out")}), sofa).run()
        urls = [url for charge in api.books()["charges"] for url in charge["request"]["image_urls"]]
        return sorted(url.partition("?")[0].rpartition("/")[2] for url in urls)

    return sent


def refusal(api, sent, make, error=InvalidRequestError):
    """The message about a task that is refused before anything is paid for."""
    with pytest.raises(error) as raised:
        sent(make)
    assert api.books()["submits"] == 0
    return raised.value.message


# One image


@pytest.mark.parametrize("form", [str, ObjectStoragePath])
def test_an_address_that_stands_in_the_dag_file_needs_no_root(sent, sofa, form):
    assert sent(lambda ways: GptImageGenerateOperator(image_urls=[form(sofa)], **ways)) == ["sofa.png"]


FOREIGN = {
    "template": lambda: ["{{ dag_run.conf['reference'] }}"],
    "template in a list beside others": lambda: [
        "https://example.com/a.png",
        "{{ dag_run.conf['reference'] }}",
    ],
    "another task's result in a list": lambda: [other()],
    "a template of the whole list": lambda: "{{ [dag_run.conf['reference']] }}",
}


@pytest.mark.parametrize("form", FOREIGN)
def test_one_that_is_rendered_or_comes_from_another_task_is_refused_before_anything_is_paid(
    api, sent, sofa, form
):
    def make(ways):
        with DAG("d", schedule=None, render_template_as_native_obj=True):
            return GptImageGenerateOperator(image_urls=FOREIGN[form](), **ways)

    message = refusal(api, sent, make)

    happened, rule, remedy = message.split("\n")
    assert "image_urls: item" in happened
    assert "sofa.png" in happened or sofa[:40] in happened
    assert "There are none." in rule
    assert "list its folder" in remedy


@pytest.mark.parametrize("form", FOREIGN)
def test_under_a_root_that_the_author_lists_it_is_signed(sent, root, form):
    def make(ways):
        with DAG("d", schedule=None, render_template_as_native_obj=True):
            return GptImageGenerateOperator(image_urls=FOREIGN[form](), reference_roots=[root], **ways)

    assert sent(make)[-1] == "sofa.png"


def test_under_another_root_it_is_not(api, sent, bucket):
    roots = [f"{bucket.destination}/chairs/", f"{bucket.destination}-of-others/"]

    message = refusal(
        api,
        sent,
        lambda ways: GptImageGenerateOperator(
            image_urls=["{{ dag_run.conf['reference'] }}"], reference_roots=roots, **ways
        ),
    )

    assert "/chairs'" in message


def test_a_template_of_an_object_without_roots_is_told_while_the_dag_is_parsed():
    with pytest.raises(InvalidRequestError, match="Give reference_roots"):
        GptImageGenerateOperator(task_id="t", image_urls=["s3://my_aws@photos/{{ ds }}.png"])


def test_a_root_that_is_none_is_told_while_the_dag_is_parsed():
    with pytest.raises(InvalidRequestError, match=r"^Task 't' .*: reference_roots: "):
        GptImageGenerateOperator(task_id="t", prompt="x", reference_roots=["photos/"])
    with pytest.raises(InvalidRequestError, match=r"^Task 't' .*: reference_roots: "):
        GptImageBatchOperator(
            task_id="t", requests=[], destination="/d", reference_roots="s3://my_aws@photos/"
        )


def test_an_image_that_is_paid_for_is_fetched_whatever_the_roots_are_by_now(
    api, bucket, tmp_path, root, sofa
):
    roots = [root]

    def make():
        return GptImageGenerateOperator(
            image_urls=["{{ dag_run.conf['reference'] }}"],
            reference_roots=roots,
            destination=str(tmp_path / "out"),
            **WAYS,
        )

    api.settings(duration=0.05)
    poster = Parsed(make, sofa)
    poster.run()
    roots.clear()

    assert poster.run()["reused"]


# Mapped


def test_what_expand_brings_is_another_tasks_word_and_what_partial_was_given_is_the_authors(api, sent, sofa):
    def expanded(ways):
        mapped = GptImageGenerateOperator.partial(**ways).expand(image_urls=[[sofa]])
        return mapped.unmap({"image_urls": [sofa]})

    def partial(ways):
        mapped = GptImageGenerateOperator.partial(image_urls=[sofa], **ways).expand(prompt=["a"])
        return mapped.unmap({"prompt": "a"})

    assert "reference_roots" in refusal(api, sent, expanded)
    assert sent(partial) == ["sofa.png"]


def test_under_a_root_what_expand_brings_is_signed(sent, sofa, root):
    def make(ways):
        mapped = GptImageGenerateOperator.partial(reference_roots=[root], **ways).expand(image_urls=[[sofa]])
        return mapped.unmap({"image_urls": [sofa]})

    assert sent(make) == ["sofa.png"]


def test_what_default_args_say_is_the_authors_word_too(sent, sofa, root):
    def make(ways):
        with DAG("d", schedule=None, default_args={"reference_roots": [root]}):
            mapped = GptImageGenerateOperator.partial(**ways).expand(image_urls=[[sofa]])
            return mapped.unmap({"image_urls": [sofa]})

    assert sent(make) == ["sofa.png"]


def test_the_roots_themselves_never_come_from_another_task(api, sent, sofa, root):
    def make(ways):
        mapped = GptImageGenerateOperator.partial(**ways).expand_kwargs([{"image_urls": [sofa]}])
        return mapped.unmap({"image_urls": [sofa], "reference_roots": [root]})

    assert "Give reference_roots to partial()" in refusal(api, sent, make)


def test_nor_do_they_stand_in_for_the_authors_own(api, sent, sofa, root):
    def make(ways):
        partial = GptImageGenerateOperator.partial(reference_roots=["s3://my_aws@photos/"], **ways)
        mapped = partial.expand_kwargs([{"image_urls": [sofa]}], strict=False)
        return mapped.unmap({"image_urls": [sofa], "reference_roots": [root]})

    assert "Give reference_roots to partial()" in refusal(api, sent, make)


# A data set


@pytest.fixture
def csv(tmp_path, sofa):
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,image_urls\na chair,https://example.com/a.png\na sofa,{sofa}\n")
    return str(path)


FOREIGN_ROWS = {
    "a file": lambda sofa, csv: {"requests": csv},
    "a list": lambda sofa, csv: {"requests": [{"prompt": "a sofa", "image_urls": [sofa]}]},
    "another task's result in a row": lambda sofa, csv: {"requests": [{"image_urls": [other()]}]},
    "a template in defaults": lambda sofa, csv: {
        "requests": ["a sofa"],
        "defaults": {"image_urls": ["{{ dag_run.conf['reference'] }}"]},
    },
}


@pytest.mark.parametrize("form", FOREIGN_ROWS)
def test_an_object_in_a_data_set_is_a_bad_cell_before_anything_is_paid(api, sent, sofa, csv, form):
    def make(ways):
        return GptImageBatchOperator(**FOREIGN_ROWS[form](sofa, csv), **ways)

    message = refusal(api, sent, make, InvalidRowsError)

    cell = message.split("\n")[-1]
    assert ", column image_urls: item 0: " in cell
    assert "only under the task's reference_roots. There are none. If" in cell


@pytest.mark.parametrize("form", FOREIGN_ROWS)
def test_under_a_root_an_object_in_a_data_set_is_signed(api, sent, sofa, csv, root, form):
    def make(ways):
        return GptImageBatchOperator(**FOREIGN_ROWS[form](sofa, csv), reference_roots=[root], **ways)

    assert "sofa.png" in sent(make)


def test_rows_with_such_an_object_can_be_left_out(api, sent, csv):
    assert sent(lambda ways: GptImageBatchOperator(requests=csv, on_invalid="skip", **ways)) == ["a.png"]


def test_what_defaults_have_in_the_dag_file_needs_no_root(sent, sofa):
    defaults = {"image_urls": [sofa]}

    assert sent(lambda ways: GptImageBatchOperator(requests=["a"], defaults=defaults, **ways)) == ["sofa.png"]


def test_a_preview_refuses_it_too(api, sent, csv):
    refusal(
        api, sent, lambda ways: GptImageBatchOperator(requests=csv, dry_run=True, **ways), InvalidRowsError
    )


# The decorators


def test_what_a_function_returns_is_not_written_in_the_dag_file(api, sent, sofa, root):
    def picture():
        return {"prompt": "a sofa", "image_urls": [sofa]}

    assert "reference_roots" in refusal(api, sent, lambda ways: gpt_image_task(**ways)(picture)())
    assert sent(lambda ways: gpt_image_task(reference_roots=[root], **ways)(picture)()) == ["sofa.png"]


def test_what_the_decorator_was_given_is(sent, sofa):
    def picture():
        return "a sofa"

    assert sent(lambda ways: gpt_image_task(image_urls=[sofa], **ways)(picture)()) == ["sofa.png"]


def test_the_batchs_decorator_has_roots_as_well(api, sent, sofa, root):
    def rows():
        return [{"image_urls": [sofa]}]

    refusal(api, sent, lambda ways: gpt_image_batch_task(**ways)(rows)(), InvalidRowsError)
    assert sent(lambda ways: gpt_image_batch_task(reference_roots=[root], **ways)(rows)()) == ["sofa.png"]
