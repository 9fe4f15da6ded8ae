"""What is used of securesystemslib, without the cloud client that its signers bring along.

`securesystemslib.signer` imports boto3 wherever that is installed, and does without it elsewhere.
Here it is installed for storages, and no key of ours is in a cloud; it would cost every job that
reads an envelope more than all its own work.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _not_installed(module: str) -> Iterator[None]:
    """Let imports of ``module`` fail, as the import system does for None in `sys.modules`.

    https://docs.python.org/3.11/reference/import.html#the-module-cache
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


with _not_installed("boto3"):
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import CryptoSigner, SSlibKey

__all__ = ["CryptoSigner", "Envelope", "SSlibKey", "UnverifiedSignatureError"]
