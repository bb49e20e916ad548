"""The gpt-image-2 HTTP API, without any Airflow: usable on its own.

>>> from airflow_gpt_image.api.client import GptImageClient
>>> from airflow_gpt_image.api.models import ImageRequest
>>> with GptImageClient(api_key="sk-…") as client:
...     generation = client.generate(ImageRequest(prompt="a red bicycle"))
"""
