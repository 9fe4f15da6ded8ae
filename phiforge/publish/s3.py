"""Reach S3 through boto3, as a file system that fsspec's callers can use.

fsspec's own (s3fs) pins a botocore that the lock's boto3 and moto do not work with.
"""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

_BLOCK = 32 << 20


class S3FileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Objects below buckets; credentials are where boto3 looks for them.

    Args:
        endpoint_url: address of another server than AWS's.
        region: as boto3 names it; by default that of the environment.
        retries: attempts at one request.
    """

    protocol = "s3"

    def __init__(
        self, endpoint_url: str | None = None, region: str | None = None, retries: int = 5
    ) -> None:
        super().__init__()
        self.client = boto3.client(
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

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Give an object's name, type and size in bytes.

        Raises:
            FileNotFoundError: there is no such object.
        """
        try:
            head = self.client.head_object(**_place(path))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            raise FileNotFoundError(path) from None
        return {"name": path, "type": "file", "size": head["ContentLength"]}

    def find(self, path: str, **_: Any) -> list[str]:
        """List the objects below ``path``."""
        bucket, key = _place(path).values()
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{key}/"
        )
        return [f"{bucket}/{entry['Key']}" for page in pages for entry in page.get("Contents", [])]

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Create the bucket of ``path`` unless it exists; S3 has no folders."""
        bucket = _place(path)["Bucket"]
        try:
            self.client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            region = self.client.meta.region_name
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self.client.create_bucket(Bucket=bucket, **(place if region != "us-east-1" else {}))

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        """Upload a local file, in parts where it is large; S3 shows it when it is complete."""
        self.client.upload_file(lpath, *_place(rpath).values())

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete the objects below ``path``."""
        for found in self.find(path):
            self.client.delete_object(**_place(found))

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "_S3File":
        return _S3File(self, path, mode, block_size=_BLOCK)


class _S3File(AbstractBufferedFile):  # type: ignore[misc]
    """An object that is read in ranges."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        answer = self.fs.client.get_object(**_place(self.path), Range=f"bytes={start}-{end - 1}")
        data: bytes = answer["Body"].read()
        return data


def _place(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}
