"""Check that the bucket exists before anything is uploaded.

Of the slow imports this module has only boto3, so that a command reports a dead endpoint within 3 s.
"""

from __future__ import annotations

import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError
from botocore.exceptions import ConnectionError as NoConnection

from worker.domain.errors import Unavailable
from worker.settings import SettingsError

# Seconds: for one answer; in which a refused connection is tried again, since S3 may be restarting; between two tries.
_TIMEOUT, _PATIENCE, _PAUSE = 2.0, 1.0, 0.25


def answers(bucket: str) -> bool:
    """Ask S3 for the bucket. Return False if S3 accepts the connection and does not answer within 2 s.

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
            # A role with s3:PutObject may lack s3:ListBucket, so only the upload shows whether it is allowed.
            return True
        else:
            return True
