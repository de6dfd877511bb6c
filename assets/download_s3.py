"""Fetches files from an S3 bucket: open ones without credentials, others with those that AWS tools use on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from assets.download_transport import (
    CONNECT_TIMEOUT_S,
    PIECE_BYTES,
    READ_TIMEOUT_S,
    Answer,
    ChangedError,
    DownloadError,
    RefusedError,
    TransientError,
)

_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_UNKNOWN = {"InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}
_MISSING = {"NoSuchKey", "404", "NotFound"}


class S3Transport:
    """Files below a prefix of a bucket (or of an access point, by its ARN)."""

    def __init__(self, place: str, *, workers: int, signed: bool, directions: str = "") -> None:
        """`place` is "s3://bucket/prefix/"; `signed` asks with the credentials of this machine.

        Raises:
            DownloadError: the address names no bucket.
        """
        # An access point's ARN has one slash in its name: arn:aws:s3:<region>:<account>:accesspoint/<name>/<prefix>
        parts = place.removeprefix("s3://").split("/")
        n_name = 2 if parts[0].startswith("arn:") else 1
        self._bucket, prefix = "/".join(parts[:n_name]), "/".join(parts[n_name:])
        if not place.startswith("s3://") or not self._bucket:
            raise DownloadError(f"{place!r} is no address of a bucket; it must look like s3://bucket/prefix/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        self._workers, self._signed, self._directions = workers, signed, directions
        self.name = f"s3://{self._bucket}/{self._prefix}"

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        options = {} if self._signed else {"signature_version": UNSIGNED}
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},  # who fetches tries again, from where it stopped
            max_pool_connections=self._workers,
            response_checksum_validation="when_required",  # the publisher's own list is what counts
            **options,
        )
        region = os.environ.get("AWS_REGION") or boto3.session.Session().region_name or "us-east-1"
        return boto3.client("s3", region_name=region, config=config)

    def connect(self) -> None:
        """Make the client, once, before threads share it.

        Raises:
            RefusedError: credentials or their profile cannot be found.
        """
        from botocore.exceptions import BotoCoreError

        try:
            self._client  # noqa: B018 - boto3's clients are safe to share, but not to make, in several threads
        except BotoCoreError as error:
            raise RefusedError(f"{self.name}: AWS is not set up on this machine ({error}). {self._directions}") from error

    def open(self, address: str, start: int, etag: str) -> Answer:
        """As `Transport.open`."""
        from botocore.exceptions import BotoCoreError, ClientError

        what = f"{self.name}{address}"
        asked: dict[str, str] = {"Bucket": self._bucket, "Key": self._prefix + address}
        if start:
            asked |= {"Range": f"bytes={start}-"} | ({"IfMatch": etag} if etag else {})
        try:
            found = self._client.get_object(**asked)
        except ClientError as error:
            raise self._explain(error, what) from error
        except BotoCoreError as error:
            raise self._explain_here(error, what) from error
        body, length = found["Body"], int(found["ContentLength"])
        if start and found["ResponseMetadata"]["HTTPStatusCode"] != 206:
            body.close()
            raise ChangedError(f"{what}: the server sends it from its beginning only")
        return Answer(start + length, str(found.get("ETag", "")), _pieces(body, what), body.close)

    def _explain(self, error: Any, what: str) -> DownloadError:
        """The error that an answer of S3 stands for."""
        said = error.response.get("Error", {})
        code, status = str(said.get("Code", "")), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _BUSY or status in (408, 429) or status >= 500:
            return TransientError(f"{what}: S3 answered {status} {code}")
        if status in (412, 416):
            return ChangedError(f"{what} is not what it was when its first part was fetched")
        if code in _MISSING or status == 404:
            if code == "NoSuchBucket":
                return RefusedError(f"there is no bucket {self._bucket}; see the dataset's homepage, or give another address with --source")
            return DownloadError(f"{what} is not there; the publisher has moved or withdrawn it, see the dataset's homepage")
        if code in _EXPIRED:
            return RefusedError(f"{what}: the AWS credentials of this machine have expired; log in again, then run the same command")
        if code in _UNKNOWN:
            return RefusedError(f"{what}: AWS does not know the credentials of this machine ({code}); set them up with `aws configure`")
        if code in _ELSEWHERE or status in (301, 307):
            region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region") or said.get("Region")
            where = f"region {region}" if region else "another region"
            return RefusedError(
                f"bucket {self._bucket} lies in {where}; set AWS_REGION={region or '<its region>'} and run the same command"
            )
        if code == "AccessDenied" or status in (401, 403):
            return DownloadError(f"{what}: S3 does not let you have it ({code or status}). {self._directions}".rstrip())
        return DownloadError(f"{what}: S3 answered {status} {code}: {said.get('Message', '')}")

    def _explain_here(self, error: Exception, what: str) -> DownloadError:
        """The error that a failure on this side stands for."""
        from botocore import exceptions as e

        credentials = (e.NoCredentialsError, e.PartialCredentialsError, e.CredentialRetrievalError, e.TokenRetrievalError, e.SSOError)
        if isinstance(error, credentials):
            return RefusedError(f"{what} needs AWS credentials, and there are none that work ({error}). {self._directions}".rstrip())
        if isinstance(error, e.SSLError):
            return RefusedError(f"{what}: the server's certificate is not trusted ({error}); behind a proxy, name its with AWS_CA_BUNDLE")
        if isinstance(error, e.HTTPClientError | e.ConnectionError):
            return TransientError(f"{what}: {error}")
        return DownloadError(f"{what}: {error}")


def _pieces(body: Any, what: str) -> Iterator[bytes]:
    """The bytes of an answer; botocore compares their number with what was announced."""
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    try:
        while piece := body.read(PIECE_BYTES):
            yield piece
    except (BotoCoreError, HTTPError, OSError) as error:
        raise TransientError(f"{what}: the connection broke ({error})") from error
