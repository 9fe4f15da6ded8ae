"""Reach S3 through boto3, as a file system of fsspec's.

fsspec's own, s3fs, pins a botocore that the lock's boto3 does not work with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from fsspec.spec import AbstractFileSystem


class S3FileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Objects in buckets, as ``bucket/key``; credentials are where boto3 looks for them.

    Args:
        endpoint_url: address of another server than AWS's.
        region: by default that of the environment.
        retries: attempts at one request.
    """

    protocol = "s3"

    def __init__(
        self, endpoint_url: str | None = None, region: str | None = None, retries: int = 5
    ) -> None:
        super().__init__()
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            config=Config(
                retries={"total_max_attempts": retries, "mode": "standard"},
                # Servers other than AWS's do not know its newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def find(self, path: str, **_: Any) -> list[str]:
        """List the objects below ``path``; none: there is no such bucket, as with a folder."""
        bucket, _slash, key = path.partition("/")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{key}/"
        )
        try:
            found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        except self._client.exceptions.NoSuchBucket:
            return []
        return [f"{bucket}/{name}" for name in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name and size of an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        bucket, _slash, key = path.partition("/")
        with _expecting(path):
            found = self._client.head_object(Bucket=bucket, Key=key)
        return {"name": path, "size": found["ContentLength"], "type": "file"}

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Create the bucket unless it exists; S3 has no folders."""
        bucket = path.partition("/")[0]
        try:
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if not _missing(error):
                raise
            region = self._client.meta.region_name
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._client.create_bucket(Bucket=bucket, **(place if region != "us-east-1" else {}))

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        """Upload a file, in parts where it is large; readers see it when it is complete."""
        bucket, _slash, key = rpath.partition("/")
        self._client.upload_file(lpath, bucket, key)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Store a small object in one request."""
        bucket, _slash, key = path.partition("/")
        self._client.put_object(Bucket=bucket, Key=key, Body=value)

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        """Download an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        bucket, _slash, key = rpath.partition("/")
        with _expecting(rpath):
            self._client.download_file(bucket, key, lpath)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete the objects below ``path``."""
        for found in self.find(path):
            bucket, _slash, key = found.partition("/")
            self._client.delete_object(Bucket=bucket, Key=key)


@contextmanager
def _expecting(path: str) -> Iterator[None]:
    """Raise a `FileNotFoundError` where S3 says that there is no such object."""
    try:
        yield
    except ClientError as error:
        if not _missing(error):
            raise
        raise FileNotFoundError(path) from None


def _missing(error: ClientError) -> bool:
    return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 404)
