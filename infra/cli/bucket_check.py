"""Whether the bucket is there, asked before anything is sent. It imports boto3 alone: a dead endpoint is told within 3 s."""

from __future__ import annotations

import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError
from botocore.exceptions import ConnectionError as NoConnection

from worker.domain.errors import Unavailable
from worker.settings import SettingsError

# Seconds: for one answer; and in which a refused connection is tried again, for a part that is just being started again.
_TIMEOUT, _PATIENCE, _PAUSE = 2.0, 1.0, 0.25


def answers(bucket: str) -> bool:
    """Ask S3 for the bucket. False where S3 accepts the connection and takes longer than 2 s to answer.

    Raises:
        SettingsError: the bucket does not exist.
        Unavailable: nothing answers at that address, or its name is not known.
    """
    client = boto3.client("s3", config=Config(connect_timeout=_TIMEOUT, read_timeout=_TIMEOUT, retries={"total_max_attempts": 1}))
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            client.head_bucket(Bucket=bucket)
        except ReadTimeoutError:
            return False
        except (NoConnection, HTTPClientError) as error:
            if time.monotonic() + _PAUSE > end:
                why = str(error).splitlines()[0].removesuffix(".")
                raise Unavailable("s3_unreachable", f"S3 does not answer: {why}. Check AWS_ENDPOINT_URL.") from error
            time.sleep(_PAUSE)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                where = client.meta.endpoint_url
                raise SettingsError(f"There is no bucket {bucket!r} at {where}: check BUCKET and AWS_ENDPOINT_URL.") from None
            # A role that may write need not be allowed to ask for the bucket: the upload finds out what it may do.
            return True
        else:
            return True
