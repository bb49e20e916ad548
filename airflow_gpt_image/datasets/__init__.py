"""Prompts out of lists, tables and files: every row a request, or bad cells that say where they stand."""

from airflow_gpt_image.datasets.given import FIELDS, as_line
from airflow_gpt_image.datasets.judging import BadCell, Row, count_rows, invalid_rows
from airflow_gpt_image.datasets.rows import MOST_ROWS, read

__all__ = ["FIELDS", "MOST_ROWS", "BadCell", "Row", "as_line", "count_rows", "invalid_rows", "read"]
