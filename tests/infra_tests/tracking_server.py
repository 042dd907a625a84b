"""An MLflow server on a host, on PostgreSQL where that and its driver are, else on sqlite."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from tests.infra_tests.hosts import Host, Hosts, wait_until

PORT = 5000
POSTGRES = Path("/usr/lib/postgresql")
DATABASE = """
mkdir -p /tmp/pg && chown postgres /tmp/pg && cd /tmp/pg
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
as "$BIN/initdb" --pgdata=/tmp/pg/data --auth=trust --no-sync > /dev/null
as "$BIN/pg_ctl" --pgdata=/tmp/pg/data --log=/tmp/pg/log --wait \
  --options="-c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp/pg" start > /dev/null
as "$BIN/createdb" --host=127.0.0.1 mlflow
"""


def start_tracking_server(hosts: Hosts) -> str:
    """Start it on the first host; return the URI by which the others reach it."""
    host = hosts[0]
    backend = f"sqlite:///{host.home}/mlflow.db"
    binaries = sorted(POSTGRES.glob("*/bin/initdb"))
    if binaries and find_spec("psycopg2") and shutil.which("setpriv"):
        output = host.shell(DATABASE, env={"BIN": str(binaries[-1].parent)})
        if output.returncode:
            raise RuntimeError(output.stdout)
        backend = "postgresql+psycopg2://postgres@127.0.0.1/mlflow"
    words = ["mlflow", "server", "--host", host.address, "--port", str(PORT), "--workers", "1"]
    words += ["--backend-store-uri", backend, "--allowed-hosts", "*"]
    words += ["--artifacts-destination", str(hosts.shared / "artifacts")]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = hosts.shared / "mlflow.txt"
    host.start(*words, env=environment, output=log)
    wait_until(lambda: _answers(host), 120, f"no tracking server: {log}")
    return f"http://{host.name}:{PORT}"


def _answers(host: Host) -> bool:
    probe = f"exec 3<>/dev/tcp/{host.address}/{PORT}"
    return host.run("bash", "-c", probe).returncode == 0
