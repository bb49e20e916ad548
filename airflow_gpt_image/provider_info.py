"""What Airflow discovers. Read by every component at start, so it is plain data and imports nothing."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "GPT Image 2"


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": list(names)}]


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    kind = schema.pop("type")
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


def get_provider_info() -> dict[str, Any]:
    """The ``apache_airflow_provider`` entry point.

    The connection's fields are explained at ``GptImageHook``.
    """
    return {
        "package-name": "airflow-provider-gpt-image",
        "name": "GPT Image 2",
        "description": "Images from the gpt-image-2 API: paid for once, awaited without a worker slot.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        "hooks": _modules("airflow_gpt_image.hooks.gpt_image"),
        "operators": _modules("airflow_gpt_image.operators.gpt_image", "airflow_gpt_image.operators.batch"),
        "sensors": _modules("airflow_gpt_image.sensors.gpt_image"),
        "triggers": _modules("airflow_gpt_image.triggers.gpt_image"),
        "task-decorators": [
            {"name": "gpt_image", "class-name": "airflow_gpt_image.decorators.gpt_image.gpt_image_task"},
            {
                "name": "gpt_image_batch",
                "class-name": "airflow_gpt_image.decorators.gpt_image.gpt_image_batch_task",
            },
        ],
        "extra-links": [
            f"airflow_gpt_image.tasks.links.{name}"
            for name in ("GalleryLink", "ImageLink", "FolderLink", "GenerationLink", "ManifestLink")
        ],
        "config": {
            "gpt_image": {
                "description": "Settings of airflow-provider-gpt-image.",
                "options": {
                    "records": {
                        "description": (
                            "Folder for the records of tasks without a destination, on any store Airflow "
                            "knows or a path that all workers share. They tell what is paid for when "
                            "Airflow's task state is gone, as after a clear on Airflow 3.4. Empty: such "
                            "tasks have their records in the task state alone."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/gpt-image-records",
                        "default": "",
                    },
                    "gallery_roots": {
                        "description": (
                            "Folders whose images the API server shows in the Images tab, written as tasks "
                            "name them in destination, separated by commas. Nothing else is shown: a Dag's "
                            "author may name any path, and the API server may read what authors may not. "
                            "Empty: no images are shown."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/images, /mnt/images",
                        "default": "",
                    },
                    "callback_base_url": {
                        "description": (
                            "Public address of Airflow's API server, as the API reaches it. With it and "
                            "callback_secret the API is asked to notify Airflow when a generation ends, and "
                            "the waiting task is woken. Empty: tasks poll."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "https://airflow.example.com",
                        "default": "",
                    },
                    "callback_secret": {
                        "description": (
                            "Signs callback addresses: 16 characters or more, the same on workers and API "
                            "servers. Of several, separated by commas, the first signs and all are accepted."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                    "callback_vendor_secret": {
                        "description": (
                            "Where the API signs its notifications (X-Webhook-Timestamp and "
                            "X-Webhook-Signature): the key that it signs with. Then one without a valid "
                            "signature is refused. Empty: signatures aren't looked at."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                },
            },
        },
        "connection-types": [
            {
                "connection-type": "gpt_image",
                "hook-class-name": "airflow_gpt_image.hooks.gpt_image.GptImageHook",
                "hook-name": "GPT Image",
                "ui-field-behaviour": {
                    # Not the port: without it, Airflow 3.3 refuses what its own "Test" sends.
                    "hidden-fields": ["login", "schema"],
                    "relabeling": {"password": "API Key", "host": "Base URL"},
                    "placeholders": {
                        "password": "sk-…",
                        "host": "https://api.aivideoapi.ai",
                        "port": "443, unless Base URL has another; Test on Airflow 3.3 needs it",
                    },
                },
                "conn-fields": {
                    "connect_timeout": _field(
                        "Connect Timeout",
                        "Seconds for each step of connecting; at most 300.",
                        type="number",
                        default=10,
                        exclusiveMinimum=0,
                        maximum=300,
                    ),
                    "read_timeout": _field(
                        "Read Timeout",
                        "Seconds without an answer until a call counts as failed; at most 3600.",
                        type="number",
                        default=60,
                        exclusiveMinimum=0,
                        maximum=3600,
                    ),
                    "proxy": _field(
                        "Proxy",
                        "Address of an HTTP(S) proxy, such as http://user:password@proxy.example.com:3128. "
                        "Empty: the environment's.",
                        type="string",
                        format="password",
                    ),
                    "verify": _field(
                        "Verify Certificates", "Off only for tests.", type="boolean", default=True
                    ),
                    "ca_bundle": _field(
                        "CA Bundle",
                        "Path of a PEM file, or of a folder ending in '/', on workers and triggerers. "
                        "Empty: what SSL_CERT_FILE or SSL_CERT_DIR names there, else certifi's.",
                        type="string",
                    ),
                    "image_hosts": _field(
                        "Image Hosts",
                        "Hosts that images may come from besides public https ones, separated by commas. "
                        "Behind a proxy only names are checked, not where they lead.",
                        type="string",
                    ),
                    "max_image_bytes": _field(
                        "Largest Image", "In bytes.", type="integer", default=134217728, minimum=1
                    ),
                    "allow_http": _field(
                        "Allow Plain HTTP",
                        "Lets the API key travel in clear to a host that isn't this machine.",
                        type="boolean",
                        default=False,
                    ),
                    "rate_limit": _field(
                        "Rate Limit",
                        "Submits per second that a batch makes at most. Empty: as many as the API takes.",
                        type="number",
                        exclusiveMinimum=0,
                        maximum=200,
                    ),
                    "prices": _field(
                        "Prices",
                        "JSON with the credits for 1k, 2k, 4k and usd_per_credit, where they aren't the API "
                        'document\'s: {"1k": "4.7", "2k": "9.4", "4k": "14.1", "usd_per_credit": "0.005"}.',
                        type="string",
                    ),
                },
            }
        ],
    }
