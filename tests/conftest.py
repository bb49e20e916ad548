"""Before Airflow is imported by anybody: a home of its own, and nothing of the machine's Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[name]
_home = tempfile.mkdtemp(prefix="gpt-image-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _home
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = f"{_home}/dags"
# Another one is named by those who run tests on it in a process of its own.
_database = os.environ.get("GPT_IMAGE_TESTS_DATABASE") or f"sqlite:///{_home}/airflow.db"
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = _database

# Where Arrow is loaded, a batch makes its Parquet manifest without a process of its own: these are hundreds.
import pyarrow  # noqa: E402, F401
