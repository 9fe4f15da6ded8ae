"""The only door to the Hub: the official client's session, addresses, headers and errors.

The client brings proxies, CA bundles, HF_ENDPOINT, redirects without the token, and the Hub's
error codes. Everything that goes wrong leaves here as `TransientError` (worth another attempt) or
`SourceError` (for a person), in our own words: a client's message can hold a signed address.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from phiforge.sources.request import SHA256, HubSource, SourceError, stays_inside
from phiforge.sources.retry import TransientError


def _prepare_environment() -> None:
    """Set what huggingface_hub and httpx read once, when they are imported or first used.

    Raises:
        SourceError: a value on which the client's import would stumble.
    """
    # With telemetry the client asks the server for a list of coding agents and names ours.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    if not os.environ.get("HF_ENDPOINT"):
        os.environ.pop("HF_ENDPOINT", None)
    # httpx knows SSL_CERT_FILE only; a CI agent is often configured for requests or curl.
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

TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
_RANGE_REFUSED = 416
_PARTIAL_CONTENT = 206
_UNAUTHORIZED = (401, 403)
_NOT_FOUND = 404


@dataclass(frozen=True)
class HubFile:
    """One file of a commit, as the Hub's listing has it.

    Attributes:
        path: relative to the repository's top.
        size: in bytes.
        git_blob: hex git blob id (SHA-1), for a file that git itself holds; else None.
        lfs_sha256: hex SHA-256, for a file in LFS or Xet storage; else None.
    """

    path: str
    size: int
    git_blob: str | None
    lfs_sha256: str | None

    @property
    def digest(self) -> str:
        """What the bytes must hash to: the SHA-256, or else the git blob id."""
        return self.lfs_sha256 or self.git_blob or ""


class HubClient:
    """One commit of one repository, seen through the official client."""

    def __init__(self, source: HubSource) -> None:
        self._source = source
        self._token = token()
        self._page = f"{endpoint()}/{source.repo}"
        try:
            get_session()
        except (ImportError, ValueError, httpx.InvalidURL):
            raise SourceError(
                "the proxy settings of the environment cannot be used",
                remedy="give HTTP_PROXY, HTTPS_PROXY and ALL_PROXY as http:// addresses",
            ) from None

    @property
    def where(self) -> str:
        """The commit, for messages."""
        return f"{self._page} at {self._source.revision[:12]}"

    def listing(self) -> dict[str, HubFile]:
        """Every file of the commit by path; one request.

        Raises:
            SourceError: no such commit, no access, or the answer is no usable listing.
            TransientError: worth another attempt.
        """
        source = self._source
        with self._explained(None):
            info = HfApi(token=self._token or False, library_name="phiforge").model_info(
                source.repo,
                revision=source.revision,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )
            if info.sha != source.revision:
                raise SourceError(
                    "the Hub answered for another commit",
                    where=self._page,
                    expected=source.revision,
                    found=repr(info.sha)[:80],
                )
            files = {}
            for entry in info.siblings or []:
                lfs = entry.lfs.sha256 if entry.lfs else None
                name, size, blob = entry.rfilename, entry.size, entry.blob_id
                if not isinstance(name, str) or not stays_inside(name):
                    raise SourceError(
                        "the Hub lists a file name that no folder may take",
                        where=self._page,
                        found=ascii(name)[:120],
                    )
                known = SHA256.fullmatch(lfs) if lfs else _is_git_blob(blob)
                if not isinstance(size, int) or size < 0 or not known:
                    raise SourceError(
                        f"the Hub's listing has no size or no checksum for {name}",
                        where=self._page,
                        remedy="use an endpoint that gives them (HF_ENDPOINT)",
                    )
                files[name] = HubFile(name, size, None if lfs else blob, lfs)
        return files

    @contextmanager
    def open(self, path: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield where the server begins (``start``, or 0 where it ignores ranges) and the bytes.

        Raises:
            SourceError: the file is not there, or no access.
            TransientError: worth another attempt; also while the bytes are read.
        """
        headers = build_hf_headers(token=self._token or False, library_name="phiforge")
        headers["Accept-Encoding"] = "identity"  # a range of compressed bytes is of no use
        if start:
            headers["Range"] = f"bytes={start}-"
        url = hf_hub_url(self._source.repo, path, revision=self._source.revision)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with (
            self._explained(path),
            get_session().stream("GET", url, headers=headers, timeout=timeout) as response,
        ):
            if response.status_code == _RANGE_REFUSED:
                raise TransientError(
                    f"the server has nothing from byte {start} on", start_over=True
                )
            if response.status_code in TRANSIENT_STATUS:
                raise transient(response)
            hf_raise_for_status(response)
            begins = start if response.status_code == _PARTIAL_CONTENT else 0
            told = response.headers.get("Content-Range", f"bytes {begins}-")
            if not told.startswith(f"bytes {begins}-"):
                raise TransientError("the server sent another range", start_over=True)
            yield begins, response.iter_bytes()

    @contextmanager
    def _explained(self, path: str | None) -> Iterator[None]:
        """Turn what the client raises into `TransientError` or `SourceError`."""
        where = f"{self.where}: {path}" if path else self.where
        try:
            yield
        except OfflineModeIsEnabled:
            raise SourceError(
                "not fetched yet, and HF_HUB_OFFLINE is set", where=where, remedy="unset it"
            ) from None
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in TRANSIENT_STATUS:
                raise transient(error.response) from None
            raise self._refusal(error, status, where) from None
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects):
            raise SourceError(
                "the server sends us to an address that cannot be used", where=where
            ) from None
        except httpx.RequestError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise SourceError(
                    "the server's certificate is not trusted",
                    where=where,
                    remedy="set SSL_CERT_FILE to the CA bundle of your network",
                ) from None
            raise TransientError(in_words(error)) from None
        except (HFValidationError, httpx.InvalidURL):
            raise SourceError("the client refuses this name", where=where) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SourceError(
                "the answer is not what a Hub gives",
                where=where,
                remedy="see that HF_ENDPOINT is a Hub or its mirror, and that no login page "
                "of the network stands between",
            ) from None

    def _refusal(self, error: HfHubHTTPError, status: int, where: str) -> SourceError:
        asked = "with the token in HF_TOKEN" if self._token else "without a token"
        remedy = None
        if isinstance(error, GatedRepoError):
            what = f"the repository is gated and refused us {asked} (HTTP {status})"
            remedy = (
                f"accept the licence on the model page {self._page} and set HF_TOKEN to a read "
                "token of that account"
            )
        elif isinstance(error, RevisionNotFoundError):
            what = "the repository has no such commit"
            remedy = "correct the revision"
        elif isinstance(error, RemoteEntryNotFoundError):
            what = "the file is listed in this commit but is not there"
        elif isinstance(error, RepositoryNotFoundError):
            what = f"there is no such repository, or it is private ({asked}, HTTP {status})"
            remedy = "correct repo, or set HF_TOKEN to a token that may read it"
        elif status in _UNAUTHORIZED:
            what = f"no access {asked} (HTTP {status})"
            remedy = (
                f"if the model is gated, accept the licence on the model page {self._page}; set "
                "HF_TOKEN to a valid read token"
            )
        elif status == _NOT_FOUND:
            what = "there is no such repository, commit or file"
        else:
            what = f"the server refused: HTTP {status}"
        return SourceError(what, where=where, remedy=remedy)


def token() -> str | None:
    """The token of the environment; never that of a file in somebody's home."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        # httpx would quote the whole header in its complaint.
        raise SourceError("not a token (its characters)", where="HF_TOKEN")
    return token or None


def endpoint() -> str:
    """The Hub's address, without a password that may be in it."""
    parts = urlsplit(constants.ENDPOINT)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(
            "not the address of a Hub", where="HF_ENDPOINT", expected="http:// or https://"
        )
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_git_blob(value: object) -> bool:
    return isinstance(value, str) and len(value) == 40 and set(value) <= set("0123456789abcdef")


def transient(response: httpx.Response) -> TransientError:
    """An answer worth another attempt, with the time that the server asks to wait."""
    return TransientError(f"HTTP {response.status_code}", wish=_asked_to_wait(response.headers))


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds by ``Retry-After`` (RFC 9110, 10.2.3) or by the Hub's ``RateLimit`` header."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    if asked:
        try:
            until = parsedate_to_datetime(asked)
            return max(0.0, (until - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            pass
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit else None


def in_words(error: httpx.RequestError) -> str:
    """What went wrong, without the address: it may be signed."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refused"
    return "the connection was lost"
