"""How foreign values stand in messages."""

from __future__ import annotations

from airflow_gpt_image.api.text import quote


def test_a_text_of_megabytes_is_cut_before_it_is_looked_through():
    shown = quote("https://a.example/x?Signature=secret " * 1_000_000)

    assert shown.startswith("'https://a.example/x?*** https")
    assert "secret" not in shown
    assert shown.endswith("… (37,000,000 characters)")
