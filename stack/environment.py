"""
The environment that Airflow's components run in.

Everything is configured here, by variables: no ``airflow.cfg``, and nothing of the caller's own Airflow.
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

# What a program needs of its surroundings; all else, an inherited AIRFLOW_HOME or PYTHONPATH above all, would
# make two machines behave differently.
_INHERITED = (
    *("HOME", "LANG", "LC_ALL", "LOGNAME", "TMPDIR", "TZ", "USER"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("all_proxy", "http_proxy", "https_proxy", "no_proxy"),
)


def airflow_environment(
    home: Path,
    *,
    dags_folder: Path,
    database_url: str,
    port: int,
    path: str,
    parallelism: int,
    trigger_log_port: int,
    worker_log_port: int,
    programs: Path,
    heartbeat_timeout: float,
) -> dict[str, str]:
    """
    Build the variables shared by all components.

    :param home: Becomes ``AIRFLOW_HOME``.
    :param dags_folder: The only DAG bundle.
    :param database_url: SQLAlchemy's address of the metadata database.
    :param port: Port of the api-server.
    :param path: Beneath which it is served, such as ``/team``; empty: at the root.
    :param parallelism: Tasks that run at the same time.
    :param trigger_log_port: Port on which the triggerer serves its logs.
    :param worker_log_port: Port on which the scheduler serves the logs of its workers.
    :param programs: Folder of the installation's programs.
    :param heartbeat_timeout: Seconds without a sign of life after which a task counts as lost.
    """
    url = f"http://127.0.0.1:{port}{path}"
    sections = {
        "api": {
            "base_url": url,
            "host": "127.0.0.1",
            "port": str(port),
            "secret_key": secrets.token_urlsafe(32),
            "workers": "1",
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
        "core": {
            "dags_folder": str(dags_folder),
            "execution_api_server_url": f"{url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "load_examples": "False",
            "parallelism": str(parallelism),
            "simple_auth_manager_all_admins": "True",
            "test_connection": "Enabled",
        },
        "dag_processor": {
            "bundle_refresh_check_interval": "1",
            "refresh_interval": "3",
        },
        "database": {"sql_alchemy_conn": database_url},
        "logging": {
            "trigger_log_server_port": str(trigger_log_port),
            "worker_log_server_port": str(worker_log_port),
        },
        "scheduler": {
            "task_instance_heartbeat_timeout": str(round(heartbeat_timeout)),
            "task_instance_heartbeat_timeout_detection_interval": "5",
        },
        # Also how long a supervisor may take to notice that its task has deferred.
        "workers": {"min_heartbeat_interval": "1"},
    }
    settings = {
        f"AIRFLOW__{section}__{option}".upper(): value
        for section, options in sections.items()
        for option, value in options.items()
    }
    return {
        **_surroundings(os.environ, programs),
        "AIRFLOW_HOME": str(home),
        # Without it the last lines of a killed component never reach its log.
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


def _surroundings(inherited: Mapping[str, str], programs: Path) -> dict[str, str]:
    env = {name: inherited[name] for name in _INHERITED if name in inherited}
    # Components start programs by name, and those must be of the same installation.
    env["PATH"] = os.pathsep.join([str(programs), inherited.get("PATH", os.defpath)])
    if any(name.lower().endswith("_proxy") for name in env):
        # The hostname too: log servers are addressed by it.
        local = ["127.0.0.1", "localhost", "::1", socket.gethostname(), socket.getfqdn()]
        for name in ("NO_PROXY", "no_proxy"):
            known = [entry.strip() for entry in inherited.get(name, "").split(",") if entry.strip()]
            env[name] = ",".join(dict.fromkeys([*known, *local]))
    return env
