"""100,000 rows, read and planned: what a data set of the largest size takes before its first submit.

A CSV with five columns is read, judged, named, planned and the plan read back, in a process of its own;
nothing is paid.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = int(os.environ.get("PLANNING_ROWS", "100000"))
MOST_CPU = 10.0
MOST_RSS = 300


def main() -> None:
    """Print the figures as a Markdown table; raise when they are above what is promised."""
    with tempfile.TemporaryDirectory(prefix="planning-") as home:
        path = Path(home, "rows.csv")
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "prompt", "aspect_ratio", "category", "price"])
            for number in range(ROWS):
                prompt = f"A product photo of article {number}, front view, studio light, on white"
                writer.writerow([f"SKU-{number}", prompt, "3:2", f"category {number % 40}", "12.90"])
        worker = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            env={**os.environ, "AIRFLOW_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    told = json.loads(worker.stdout.splitlines()[-1])
    print(f"### {ROWS:,} rows of a CSV, read and planned\n")
    print("| | |\n|---|--:|")
    print(f"| CPU | {told['cpu']:.1f} s |")
    print(f"| memory at most (RSS of the process) | {told['rss']:.0f} MB |")
    print(f"| size of the plan | {told['bytes'] / 1e6:.0f} MB |")
    if told["cpu"] > MOST_CPU or told["rss"] > MOST_RSS:
        raise RuntimeError(f"Not as promised, {MOST_CPU} s and {MOST_RSS} MB: {told}")


def work(path: str) -> None:
    """Plan as a worker does, and print the figures of this process as one line of JSON."""
    from airflow_gpt_image import datasets
    from airflow_gpt_image.batch.filenames import FileNames
    from airflow_gpt_image.batch.phases import ItemTable
    from airflow_gpt_image.batch.plan import Plan
    from airflow_gpt_image.storage.finding import find_files
    from airflow_gpt_image.storage.folders import open_file

    rows, bad = datasets.read(path, open=open_file, find=find_files)
    assert (len(rows), bad) == (ROWS, [])
    with tempfile.TemporaryFile() as file:
        Plan.draft(
            rows,
            variants=1,
            scope="any",
            conn_id="gpt_image_default",
            host="api.aivideoapi.ai",
            into=file,
            names=FileNames(),
        )
        rows.clear()
        plan = Plan.read(file)
        assert len(ItemTable(plan.items)) == ROWS
        size = file.seek(0, 2)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / 1024, "bytes": size}
    print(json.dumps(figures))


if __name__ == "__main__":
    work(sys.argv[1])
