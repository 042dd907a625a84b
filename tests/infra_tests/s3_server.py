"""An S3 server on a host, with a bucket, and what the other hosts need to reach it."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.infra_tests.hosts import Host, wait_until

PORT = 9000
BUCKET = "studies"
MAKE_BUCKET = f"""
import boto3
boto3.client("s3").create_bucket(Bucket="{BUCKET}")
"""


def serve_s3(host: Host) -> dict[str, str]:
    """Serve S3 on a host; return the variables with which other hosts reach its bucket."""
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host.name}:{PORT}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "whose-secret-nobody-prints",
        "AWS_REGION": "us-east-1",
    }
    host.start(sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(PORT))
    probe = f"exec 3<>/dev/tcp/{host.name}/{PORT}"
    wait_until(lambda: host.shell(probe).returncode == 0, 60, "no S3 server")
    made = host.run(sys.executable, "-c", MAKE_BUCKET, env=variables)
    assert made.returncode == 0, made.stdout
    return variables


def json_of(output: str) -> dict[str, Any]:
    """Return the JSON object that a command printed after its notes."""
    found: dict[str, Any] = json.loads(output[output.index("{") :])
    return found
