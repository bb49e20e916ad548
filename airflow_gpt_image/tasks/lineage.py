"""Tell OpenLineage what a task read, what it stored, and what that cost.

The provider of OpenLineage asks for it, in a process of its own; without that provider nothing of this is
imported. Neither prompts nor what signs an address are told. A batch has few datasets, however many images:
its destination, its manifest, and the file that its rows come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow_gpt_image.api.models import MODEL
from airflow_gpt_image.api.pricing import plain

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_gpt_image.batch.attempt import BatchAttempt
    from airflow_gpt_image.ledger.record import Record
    from airflow_gpt_image.storage.folders import Folder

GENERATION: Final = "gptImage_generation"
"""The run facet of a task that made one image, or waited for it."""

BATCH: Final = "gptImage_batch"
"""The run facet of a task for a data set."""


_COUNTS: Final = ("rows", "images", "stored", "failed", "unknown", "submitted", "not_submitted", "reused")


@dataclass(frozen=True)
class TaskLineage:
    """
    What a task read, and what it stored.

    :param inputs: addresses, as are the outputs.
    :param facts: the fields of its run facet, by the facet's name.
    :param counts: how many images are at an output, by its address.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] | None = None
    counts: Mapping[str, int] | None = None


def of_record(record: Record | None, folder: Folder | None) -> TaskLineage:
    """
    Return what is on record of one generation.

    :param record: None: there is none yet.
    :param folder: that its images are in; None: they are where the API put them.
    """
    if record is None:
        return TaskLineage()
    images = [image.located(folder).path for image in record.images]
    facts: dict[str, Any] = {
        "generationId": record.generation_id,
        "state": record.state,
        "model": record.generation.model if record.generation is not None else MODEL,
    }
    request = record.request
    if request is not None:
        facts |= {
            "tier": request.resolution,
            "aspectRatio": request.aspect_ratio,
            "credits": str(plain(record.credits)),
            "usd": str(plain(record.usd)),
            "fingerprint": record.fingerprint,
        }
    return TaskLineage(
        inputs=request.image_urls if request is not None else (),
        outputs=tuple(path for path in images if path is not None),
        facts={GENERATION: facts},
    )


def of_batch(
    attempt: BatchAttempt | None, result: Mapping[str, Any] | None, *, source: str, destination: object
) -> TaskLineage:
    """
    Return what is known of a batch.

    :param attempt: None: it hasn't begun.
    :param result: of the task; None: it has none.
    :param source: where its rows come from, if that is an address; else nothing.
    """
    facts: dict[str, Any] = {"model": MODEL}
    if attempt is not None and attempt.plan is not None:
        facts["fingerprint"] = attempt.plan.sha256
        facts["tiers"] = dict(Counter(item.resolution for item in attempt.plan.items))
    if attempt is not None and attempt.spent is not None:
        facts |= attempt.spent
    outputs, counts = [str(destination)], {}
    if result is not None:
        facts |= {name: result[name] for name in _COUNTS}
        outputs.append(result["manifest"])
        counts[outputs[0]] = result["stored"]
    return TaskLineage((source,) if source else (), tuple(outputs), {BATCH: facts}, counts)


def dataset_of(address: str) -> tuple[str, str]:
    """
    Return an address as OpenLineage names datasets: a namespace, and a name in it.

    Without what signs it, without a login, and without the id of the connection in it.
    """
    if "://" not in address:
        return "file", address
    parts = urlsplit(address)
    if parts.scheme in ("file", "local"):
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/") or "/"


def addresses(given: object) -> tuple[str, ...]:
    """Return the addresses in the argument of an operator: texts, or objects on stores."""
    if not isinstance(given, (list, tuple)):
        return ()
    return tuple(text for value in given if "://" in (text := str(value)))


def openlineage(lineage: TaskLineage) -> OperatorLineage[Any, Any]:
    """Return a task's lineage as the provider of OpenLineage takes it."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import RunFacet, output_statistics_output_dataset

    counts = lineage.counts or {}
    outputs = []
    facets: dict[str, Any]
    for address in dict.fromkeys(lineage.outputs):
        namespace, name = dataset_of(address)
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        facets = {"outputStatistics": statistics(fileCount=counts[address])} if address in counts else {}
        outputs.append(OutputDataset(namespace=namespace, name=name, outputFacets=facets))
    named: Iterable[tuple[str, str]] = dict.fromkeys(map(dataset_of, lineage.inputs))
    given = (lineage.facts or {}).items()
    run_facets = {name: RunFacet().with_additional_properties(**facts) for name, facts in given}
    return OperatorLineage(
        inputs=[InputDataset(namespace=namespace, name=name) for namespace, name in named],
        outputs=outputs,
        run_facets=run_facets,
    )
