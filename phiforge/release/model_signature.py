"""The OpenSSF model signature over a release's payload, made with the release key.

Apart from the key itself (`phiforge.release.signing`): model-signing takes longer to import than
most jobs that need the key take altogether.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_signing import hashing, manifest, signing
from model_signing._hashing.hashing import Digest  # the manifest's items are made of it

from phiforge.release.signing import ReleaseKey

_IGNORED = ("README.md", "evidence")  # what is beside the payload


def sign_model(key: ReleaseKey, name: str, digests: Mapping[str, str], into: Path) -> None:
    """Write an OpenSSF model signature over files whose SHA-256 are known already.

    Args:
        name: the model's name in the signature; informative.
        digests: every file of the payload, SHA256SUMS included, to hex SHA-256.
    """
    config = signing.Config()  # type: ignore[no-untyped-call]
    config.set_hashing_config(_Digested(digests))
    with _in_memory(key.signer.private_pem()) as private:
        if key.certificate is None:
            config.use_elliptic_key_signer(private_key=private)
        else:
            config.use_certificate_signer(
                private_key=private,
                signing_certificate=key.certificate,
                certificate_chain=key.chain,
            )
    config.sign(name, into)


class _Digested(hashing.Config):
    """Answers model-signing's hashing from digests that were taken already.

    Its interface takes a folder and reads every byte of it: 0.7 CPU seconds a gigabyte, where the
    release's bytes have just been compared with SHA256SUMS
    (https://github.com/sigstore/model-transparency).
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._digests = digests

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
        kind = manifest.SerializationType.from_args(
            {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_IGNORED),
            }
        )
        items = [
            kind.new_item(name, Digest("sha256", bytes.fromhex(digest)))
            for name, digest in self._digests.items()
        ]
        return manifest.Manifest(str(model_path), items, kind)


@contextmanager
def _in_memory(data: bytes) -> Iterator[Path]:
    """Yield a path to ``data`` that no disk ever sees; model-signing takes keys by path only."""
    descriptor = os.memfd_create("release-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
