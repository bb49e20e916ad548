"""What the batch operator's arguments about its data set mean: read on the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from airflow_gpt_image import datasets
from airflow_gpt_image.batch.filenames import FileNames
from airflow_gpt_image.datasets import BadCell, Row
from airflow_gpt_image.datasets.paths import path_of
from airflow_gpt_image.errors import EmptyDataSetError
from airflow_gpt_image.operators.rows import refuse_references
from airflow_gpt_image.storage.finding import find_files
from airflow_gpt_image.storage.folders import open_file
from airflow_gpt_image.storage.references import NO_REFERENCES
from airflow_gpt_image.tasks import checks

if TYPE_CHECKING:
    from airflow_gpt_image.operators.batch import GptImageBatchOperator


def read(operator: GptImageBatchOperator) -> tuple[list[Row], list[BadCell]]:
    """
    Read the data set.

    :raises AirflowSkipException: when it is empty, and that is no failure.
    :raises InvalidRequestError: when it is none, or can't be read.
    """
    names = FileNames(operator.filename)
    names.check_variants(operator.variants)
    try:
        rows, bad = datasets.read(
            operator.requests,
            open=open_file,
            find=find_files,
            defaults=operator.defaults,
            columns=operator.columns,
            prompt_template=operator.prompt_template,
            needs=names.columns,
            limit=checks.rows("limit", operator.limit),
            sample=checks.rows("sample", operator.sample),
            images_per_row=operator.variants,
            log=operator.log,
        )
        return refuse_references(rows, bad, operator.references or NO_REFERENCES)
    except EmptyDataSetError as error:
        if operator.on_empty == "skip":
            raise AirflowSkipException(f"{error}\nNothing is paid for.") from error
        raise


def source(requests: object) -> str:
    """Return where the rows come from, if that is an address."""
    return path_of(requests) or ""
