"""Makes the buckets that are not there yet. Usage: python make_buckets.py NAME ...

Where and as whom is said by AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
BOUNDS = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 5})


def main() -> None:
    """Make each bucket; end with a sentence where the server refuses or does not answer."""
    s3 = boto3.client("s3", config=BOUNDS)
    for name in sys.argv[1:]:
        try:
            s3.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in THERE:
                sys.exit(f"The bucket '{name}' cannot be made: {error}")
            print(f"The bucket '{name}' is there.")
        except BotoCoreError as error:
            sys.exit(f"The bucket '{name}' cannot be made, no S3 server answers: {error}")
        else:
            print(f"The bucket '{name}' is made.")


if __name__ == "__main__":
    main()
