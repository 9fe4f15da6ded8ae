"""One commit of a Hub repository, through huggingface_hub's session, headers and errors.

The library brings proxies, CA bundles, HF_ENDPOINT, redirects without the token, and the Hub's
error codes. Its `snapshot_download` cannot take the place of `phiforge.sources.download`: version
1.21.0 deletes a partial file when it is interrupted
(https://github.com/huggingface/huggingface_hub/issues/4196), fails on the first connection reset
and the first 5xx answer, does not compare digests, and logs signed addresses.
"""

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from phiforge.sources.retry import REPETITIONS, TransientError, retry
from phiforge.sources.source import HubSource, SourceError


def _prepare_environment() -> None:
    """Set what huggingface_hub and httpx read once, when they are imported or first used.

    Raises:
        SourceError: a value at which the library's import would fail.
    """
    # With telemetry the library asks the server for a list of coding agents and names ours.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    if not os.environ.get("HF_ENDPOINT"):
        os.environ.pop("HF_ENDPOINT", None)
    # httpx reads SSL_CERT_FILE only; a CI agent is often configured for requests or curl.
    for bundle in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if not os.environ.get("SSL_CERT_FILE") and os.environ.get(bundle):
            os.environ["SSL_CERT_FILE"] = os.environ[bundle]
    for timeout in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        if not os.environ.get(timeout, "10").isdecimal():
            raise SourceError("not a number of seconds", where=timeout)


_prepare_environment()

import httpx  # noqa: E402
from huggingface_hub import HfApi, constants, get_session, hf_hub_url  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # noqa: E402
    build_hf_headers,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class HubFile:
    """One file of a commit, as the Hub lists it.

    Attributes:
        path: relative to the repository's top.
        size: in bytes.
        digest: hex SHA-256 of a file in LFS or Xet storage; git blob id of any other.
        lfs: whether the digest is a SHA-256.
    """

    path: str
    size: int
    digest: str
    lfs: bool


class HubCommit:
    """One commit of one repository.

    Raises:
        SourceError: HF_TOKEN, HF_ENDPOINT or the proxy settings cannot be used.
    """

    def __init__(self, source: HubSource) -> None:
        self._source = source
        self._token = token()
        self._page = f"{endpoint()}/{source.repo}"
        self.where = f"{self._page} at {source.revision[:12]}"
        try:
            get_session()
        except (ImportError, ValueError, httpx.InvalidURL):
            raise SourceError(
                "the proxy settings of the environment cannot be used",
                remedy="give HTTP_PROXY, HTTPS_PROXY and ALL_PROXY as http:// addresses",
            ) from None

    def listing(self, repetitions: int = REPETITIONS) -> dict[str, HubFile]:
        """Return every file of the commit by path; one request, repeated where that may help.

        Raises:
            SourceError: no such commit, no access, or the answer is no usable listing.
        """
        info = retry(self.where, self._info, repetitions)
        if info.sha != self._source.revision:
            raise SourceError(
                "the Hub answered for another commit",
                where=self._page,
                expected=self._source.revision,
                found=repr(info.sha)[:80],
            )
        files = [self._file(entry) for entry in info.siblings or []]
        return {file.path: file for file in files}

    def _info(self) -> Any:
        api = HfApi(token=self._token or False, library_name="phiforge")
        with explained(self.where, self._http_error):
            return api.model_info(
                self._source.repo,
                revision=self._source.revision,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )

    def _file(self, entry: Any) -> HubFile:
        name, size, lfs = entry.rfilename, entry.size, entry.lfs is not None
        digest = entry.lfs.sha256 if lfs else entry.blob_id
        valid = re.fullmatch("[0-9a-f]{64}" if lfs else "[0-9a-f]{40}", str(digest))
        if not isinstance(name, str) or not isinstance(size, int) or size < 0 or not valid:
            raise SourceError(
                f"the Hub lists a file without name, size or checksum: {ascii(name)[:120]}",
                where=self._page,
                remedy="use an endpoint that gives them (HF_ENDPOINT)",
            )
        return HubFile(name, size, str(digest), lfs)

    @contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield the bytes of a file, and where they begin: ``start``, or 0 without ranges.

        Raises:
            SourceError: the file is missing, or no access.
            TransientError: another attempt may help; also while the bytes are read.
        """
        headers = build_hf_headers(token=self._token or False, library_name="phiforge")
        headers["Accept-Encoding"] = "identity"  # a range of compressed bytes is of no use
        if start:
            headers["Range"] = f"bytes={start}-"
        url = hf_hub_url(self._source.repo, path, revision=self._source.revision)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with (
            explained(f"{self.where}: {path}", self._http_error),
            get_session().stream("GET", url, headers=headers, timeout=timeout) as response,
        ):
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise TransientError(f"the server has no byte after {start}", start_over=True)
            hf_raise_for_status(response)
            ranged = response.status_code == httpx.codes.PARTIAL_CONTENT
            yield start if ranged else 0, response.iter_bytes()

    def _http_error(self, error: HfHubHTTPError, where: str) -> SourceError:
        status = error.response.status_code
        asked = "with the token in HF_TOKEN" if self._token else "without a token"
        remedy: str | None = (
            f"if the model is gated, accept the licence on the model page {self._page}; set "
            "HF_TOKEN to a read token of that account"
        )
        if isinstance(error, GatedRepoError):
            what = f"the repository is gated and refused us {asked}"
        elif isinstance(error, RevisionNotFoundError):
            what, remedy = "the repository has no such commit", "correct the revision"
        elif isinstance(error, RemoteEntryNotFoundError):
            what, remedy = "the commit lists the file but does not hold it", None
        elif isinstance(error, RepositoryNotFoundError):
            what = f"there is no such repository, or it is private (asked {asked})"
            remedy = "correct repo, or set HF_TOKEN to a token that may read it"
        elif status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            what = f"no access {asked}"
        else:
            what, remedy = "the server refused", None
        return SourceError(f"{what} (HTTP {status})", where=where, remedy=remedy)


@contextmanager
def explained(where: str, http_error: Callable[[HfHubHTTPError, str], Exception]) -> Iterator[None]:
    """Turn what the library raises into messages of our own: its own can hold a signed address.

    Args:
        where: what is asked for.
        http_error: makes the error of an answer that is not known to pass.

    Raises:
        TransientError: another attempt may help.
        SourceError: it would not.
    """
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        passes = status in _TRANSIENT_STATUS
        raise (_transient(error) if passes else http_error(error, where)) from None
    except OfflineModeIsEnabled:
        raise SourceError(
            "not reached: HF_HUB_OFFLINE is set", where=where, remedy="unset it"
        ) from None
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects):
        raise SourceError(
            "the server redirects to an address that cannot be used", where=where
        ) from None
    except httpx.RequestError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise SourceError(
                "the server's certificate is not trusted",
                where=where,
                remedy="set SSL_CERT_FILE to the CA bundle of your network",
            ) from None
        what, remedy = _describe(error)
        raise TransientError(what, remedy=f"{remedy}, then run again" if remedy else "") from None
    except (HFValidationError, httpx.InvalidURL):
        raise SourceError("huggingface_hub refuses this name", where=where) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SourceError(
            "the answer is not what a Hub gives",
            where=where,
            remedy="check that HF_ENDPOINT is a Hub or its mirror, and that the network "
            "shows no login page",
        ) from None


def token() -> str | None:
    """Return the token of the environment; never that of a file in the home folder.

    Raises:
        SourceError: HF_TOKEN cannot be a token.
    """
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        # httpx would quote the whole header in its complaint.
        raise SourceError("not a token (its characters)", where="HF_TOKEN")
    return token or None


def endpoint() -> str:
    """Return the Hub's address, without a password that may be in it.

    Raises:
        SourceError: HF_ENDPOINT is not an http address.
    """
    address = without_password(constants.ENDPOINT)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(
            "not the address of a Hub",
            where="HF_ENDPOINT",
            expected="http://host or https://host",
            found=repr(address),
        )
    return address


def without_password(address: str) -> str:
    """Take user and password out of an address.

    >>> without_password("http://user:secret@proxy:3128")
    'http://proxy:3128'
    """
    scheme, separator, rest = address.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _transient(error: HfHubHTTPError) -> TransientError:
    """Read the wait that an answer asks for.

    ``Retry-After`` (RFC 9110, 10.2.3) in seconds, or the Hub's ``RateLimit`` header.
    """
    response = error.response
    asked = response.headers.get("Retry-After", "").strip()
    limit = parse_ratelimit_headers(response.headers)
    seconds = float(asked) if asked.isdecimal() else limit.reset_in_seconds if limit else 0.0
    return TransientError(f"HTTP {response.status_code}", retry_after=seconds)


def _describe(error: httpx.RequestError) -> tuple[str, str]:
    """Say what a request failed of, without its address, which may be signed; and what may help."""
    proxy = _through_proxy()
    other = "look whether that proxy answers, or unset it" if proxy else ""
    if isinstance(error, httpx.TimeoutException):
        silent = "look whether a firewall or a missing proxy (HTTPS_PROXY) keeps this machine off"
        return f"no answer in time{proxy}", other or silent
    if isinstance(error, httpx.ProxyError):
        return f"refused{proxy}", "look what that proxy asks for (user and password in its address)"
    if not isinstance(error, httpx.ConnectError):
        return "the connection was lost", ""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, socket.gaierror):
        remedy = "look whether this machine has a network that knows the name (HF_ENDPOINT)"
    elif isinstance(cause, ssl.SSLError):
        remedy = "look whether the server speaks TLS there (https:// in HF_ENDPOINT)"
    else:
        remedy = "look whether anything answers at that address (HF_ENDPOINT)"
    reason = getattr(cause, "strerror", None) or type(cause).__name__
    return f"no connection{proxy} ({reason})", other or remedy


def _through_proxy() -> str:
    parts = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy {without_password(proxy)}"
