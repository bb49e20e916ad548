"""Whose Airflow is started, and what happens when it doesn't stay."""

from __future__ import annotations

import pytest

from stack.airflow import ComponentDiedError, ScratchAirflow


def test_the_airflow_of_another_environment_is_started_and_one_that_ends_by_itself_is_told(tmp_path):
    programs = tmp_path / "other" / "bin"
    programs.mkdir(parents=True)
    program = programs / "airflow"
    program.write_text('#!/bin/sh\ncase "$1" in db) exit 0;; esac\necho "$1 has no room"\nexit 3\n')
    program.chmod(0o755)
    airflow = ScratchAirflow(tmp_path / "home", dags_folder=tmp_path, python=programs / "python")

    with pytest.raises(ComponentDiedError, match=r"ended by itself, with 3:\n[a-z-]+ has no room") as caught:
        airflow.start()

    assert caught.value.returncode == 3
