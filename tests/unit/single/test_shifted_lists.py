"""A mapped task's list is shifted and cleared: what is paid for is found by what it is, not by its index."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import structlog

from airflow_gpt_image.errors import GenerationFailedError, GptImageError, RecordMissingError
from tests.unit.single.conftest import charges

BY_POSITION = "{dag_id}/{run_id}/{task_id}/{map_index}"


class Mapped:
    """The instances of a mapped task in one run, whose list may change before a clear."""

    def __init__(self, make, **options):
        self._make, self._options = make, options
        self.instances = []
        self.clears = 0

    def run(self, prompts, *, order=None, **options):
        """Run an instance for each prompt; the results in the list's order."""
        while len(self.instances) < len(prompts):
            self.instances.append(self._make(map_index=len(self.instances), **self._options))
        for instance in self.instances:
            instance.clears = self.clears
        results = {}
        for index in order or range(len(prompts)):
            results[index] = self.instances[index].run(prompt=prompts[index], **options)
        return [results[index] for index in range(len(prompts))]

    def clear(self, airflow):
        """Clear all instances at once, as who clears the list's task does it."""
        self.clears += 1
        for instance in self.instances:
            instance.clear(airflow=airflow)


def prompts_of(api, results):
    made_for = {charge["task_id"]: charge["request"]["prompt"] for charge in api.books()["charges"]}
    return [made_for[result["generation_id"]] for result in results]


def are_whole(results):
    """Whether each result's file is what the result says of it."""
    return all(
        hashlib.sha256(Path(image["path"]).read_bytes()).hexdigest() == image["sha256"]
        for result in results
        for image in result["images"]
    )


@pytest.fixture(params=["3.3", "3.4"])
def airflow(request):
    return request.param


SHIFTS = {
    "one in front": (["a", "b", "c"], ["x", "a", "b", "c"]),
    "the first is gone": (["a", "b", "c"], ["b", "c"]),
    "turned round": (["a", "b", "c"], ["c", "b", "a"]),
    "one in the middle": (["a", "b"], ["a", "x", "b"]),
}


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("filename", [None, BY_POSITION])
@pytest.mark.parametrize("order", ["in order", "last first"])
def test_each_prompt_keeps_its_image_and_only_new_ones_are_paid(make, api, airflow, shift, filename, order):
    mapped = Mapped(make, deferrable=airflow == "3.4")
    before, after = SHIFTS[shift]
    mapped.run(before, filename=filename)
    mapped.clear(airflow)

    turn = range(len(after)) if order == "in order" else range(len(after) - 1, -1, -1)
    results = mapped.run(after, filename=filename, order=list(turn))

    assert prompts_of(api, results) == after
    assert len(charges(api)) == len({*before, *after})
    assert are_whole(results)


def test_a_list_that_is_shifted_twice_still_pays_for_what_is_new_alone(make, api, airflow):
    mapped = Mapped(make)
    for prompts in (["a", "b"], ["x", "a", "b"], ["y", "x", "a", "b"]):
        results = mapped.run(prompts, filename=BY_POSITION)
        assert prompts_of(api, results) == prompts
        assert are_whole(results)
        mapped.clear(airflow)

    assert len(charges(api)) == 4


def test_equal_prompts_in_one_list_are_an_image_each_also_after_a_clear(make, api, airflow):
    mapped = Mapped(make)
    mapped.run(["a", "a", "a"])
    mapped.clear(airflow)

    results = mapped.run(["a", "a", "a"])

    assert len({result["generation_id"] for result in results}) == 3
    assert len(charges(api)) == 3


def test_equal_prompts_that_are_shifted_pay_nothing_twice_and_the_log_says_whose_image_is_taken(
    make, api, airflow
):
    mapped = Mapped(make)
    mapped.run(["a", "b", "a"])
    mapped.clear(airflow)

    with structlog.testing.capture_logs() as lines:
        results = mapped.run(["x", "a", "b", "a"])

    assert prompts_of(api, results) == ["x", "a", "b", "a"]
    assert len(charges(api)) == 4
    assert any("was paid for at map index" in line["event"] for line in lines)


def test_a_prompt_that_is_repeated_in_the_first_run_is_paid_for_each_time_though_something_was_cleared_before(
    make, api
):
    # An upstream task was cleared before the list was there: nothing of the list is paid for yet.
    mapped = Mapped(make)
    mapped.clears = 1

    results = mapped.run(["a", "a"])

    assert len({result["generation_id"] for result in results}) == 2


def test_without_a_destination_a_shifted_list_is_refused_and_not_paid_again(make, api, airflow):
    mapped = Mapped(make, destination=None)
    mapped.run(["a", "b"])
    mapped.clear(airflow)

    for index, prompt in enumerate(["b", "a"]):
        with pytest.raises(RecordMissingError, match="nothing was submitted"):
            mapped.instances[index].run(prompt=prompt)

    assert len(charges(api)) == 2


def test_a_destination_for_each_index_is_refused_like_none(make, api, airflow, tmp_path):
    # Its template has the map index in it: the record of what stands here now is in another folder.
    folders = [f"{tmp_path}/{index}" for index in range(2)]
    instances = [make(map_index=index) for index in range(2)]
    for index in range(2):
        operator = {"destination": "{{ map_index }}", "prompt": "ab"[index]}
        rendered(instances[index], folders[index]).run(**operator)

    for index in range(2):
        instances[index].clear(airflow=airflow)
        with pytest.raises(RecordMissingError):
            rendered(instances[index], folders[index]).run(destination="{{ map_index }}", prompt="ba"[index])

    assert len(charges(api)) == 2


def rendered(instance, folder):
    """Render the destination's template as Airflow does it before it runs the task."""
    parse = getattr(instance, "parse", instance.operator)
    instance.parse = parse

    def operator(**options):
        made = parse(**options)
        made.destination = folder
        return made

    instance.operator = operator
    return instance


def test_a_mapped_task_without_a_destination_whose_image_failed_pays_again_after_a_clear(make, api):
    # The list is as it was: what stands at this index is on record, and refunded.
    task = make(destination=None, map_index=0)
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError):
        task.run()
    task.clear(airflow="3.3")

    assert task.run()["reused"] is False


def test_a_mapped_task_without_a_destination_finds_its_image_after_a_clear_that_keeps_the_state(make, api):
    task = make(destination=None, map_index=0)
    first = task.run()
    task.clear(airflow="3.3")

    assert task.run()["generation_id"] == first["generation_id"]
    assert len(charges(api)) == 1


def test_a_twins_image_is_taken_again_by_a_retry_and_a_changed_prompt_is_paid_for(make, api):
    mapped = Mapped(make)
    mapped.run(["a", "b"])
    mapped.clear("3.4")
    mapped.run(["b", "a"])

    results = mapped.run(["b", "a"])
    changed = mapped.run(["b", "z"])

    assert all(result["reused"] for result in results)
    assert prompts_of(api, changed) == ["b", "z"]
    assert len(charges(api)) == 3


def test_a_sibling_that_is_still_waited_for_is_waited_for_here_too(make, api):
    mapped = Mapped(make)
    mapped.run(["a"], wait_for_completion=False)
    mapped.clear("3.4")

    results = mapped.run(["x", "a"])

    assert prompts_of(api, results) == ["x", "a"]
    assert len(charges(api)) == 2


def test_only_the_instance_that_is_cleared_alone_looks_at_its_siblings(make, api):
    mapped = Mapped(make)
    mapped.run(["a", "b"])
    mapped.instances[1].clear(airflow="3.4")
    mapped.clears = 1

    with pytest.raises(GptImageError):
        mapped.instances[1].run(prompt="")
    result = mapped.instances[1].run(prompt="b")

    assert result["reused"]
    assert len(charges(api)) == 2
