"""Images from the gpt-image-2 API as first-class Airflow work. Importing this does nothing."""

from __future__ import annotations

__version__ = "0.1.0"
