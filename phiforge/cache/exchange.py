"""Take what others have made from the storage, and put there what was made here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.artifact.scratch import remove_tree
from phiforge.cache import CacheRefusal
from phiforge.cache.contents import SMALL, TREE, Records, accept, describe, refuse_verdict
from phiforge.cache.entry import (
    Believed,
    Entry,
    believe,
    refuse_disagreement,
    sign_entry,
)
from phiforge.cache.files import Files
from phiforge.cache.key import Job, Predict, cache_key
from phiforge.cache.work import Work
from phiforge.errors import PhiforgeError
from phiforge.jobs import Check
from phiforge.publish import PublishError
from phiforge.publish.storage_client import StorageClient
from phiforge.settings.config import Cache
from phiforge.trust.document import MAX_DOCUMENT
from phiforge.trust.keys import RUNNER_KEY, private_from_environment, read_public

_SHOWN = 3  # of those whose keys are not configured


class Exchange:
    """One job's dealings with the storage.

    Attributes:
        key: of the job's inputs, as they are now.
        notes: what to say of them in the job's log, in order.

    Raises:
        PublishError: the storage cannot be reached that way.
        TrustError: a configured key cannot be read.
    """

    def __init__(self, configured: Mapping[str, Any], work: Work, job: Job) -> None:
        self._builder: str = configured["builder"]
        cache = Cache(**{name: one for name, one in configured.items() if name != "builder"})
        self._client = StorageClient(cache.storage, "cache.storage")
        self._files = Files(self._client)
        self._keys = [read_public(Path(path)) for path in cache.keys]
        self._work, self._job = work, job
        self.key = cache_key(work, job)
        self._about = "/".join(
            part for part in (job.model, getattr(job, "variant", ""), self._row()) if part
        )
        self.notes: list[str] = []

    def entries(self) -> list[Believed]:
        """Read what configured keys signed, in their order; note what is not believed.

        Raises:
            PublishError: the storage does not answer, or refuses.
        """
        there = self._client.find(self._folder)
        known = {f"{key.keyid}.dsse.json": key for key in self._keys}
        for name in [name for name in there if name not in known][:_SHOWN]:
            self.notes.append(f"not taken: no key of 'cache.keys' signed {self._folder}/{name}")
        found = []
        for name, key in known.items():
            where = f"{self._folder}/{name}"
            if name in there:
                with self._told():
                    if (self._client.size(where) or 0) > MAX_DOCUMENT:
                        raise CacheRefusal("oversized-file", "is no statement", where)
                    data = self._client.read(where) or b""
                    found.append(believe(data, [key], self._work.rule, self.key, where))
        return found

    def take(self, found: Sequence[Believed], scratch: Path | None) -> Records | None:
        """Fill ``scratch``, and return the records to write; None: nothing can be taken.

        Args:
            found: of `entries`.

        Raises:
            PublishError: the storage does not answer, or refuses.
        """
        if not (found or self.notes):
            self.notes.append(f"nothing of these inputs is there (key {self.key[:16]}…)")
        if self._disagree([(one.maker, one.entry.result) for one in found]):
            return None
        for one in found:
            with self._told():
                small = self._fetch(one, scratch)
                records = accept(self._work, self._job, scratch, small, one, self._keys)
                self.notes.append(f"taken: {self._about}, made by {one.maker}")
                return records
        return None

    def put(self, key: str, *, write: bool, again: bool) -> None:
        """Compare what was made here with what others made of the same inputs, and share it.

        Args:
            key: of the inputs when the work began.
            again: files that are there already are written again, for one of them was not right.

        Raises:
            PublishError: the storage does not answer, or refuses.
        """
        with self._told("not shared"):
            if key != self.key:
                what = "code, locks or inputs changed while it was made"
                raise CacheRefusal("other-inputs", what)
            made = describe(self._work, self._job)
            signer = private_from_environment(RUNNER_KEY)
            others = [
                one for one in self.entries() if not signer or one.keyid != signer.public_key.keyid
            ]
            makers = [(one.maker, one.entry.result) for one in others]
            self._disagree([("this agent", made.result), *makers])
            if not write:
                return
            if isinstance(self._job, Check):
                refuse_verdict(made.result)
            if signer is None:
                what = f"{RUNNER_KEY} names no key, and nobody believes what is not signed"
                raise CacheRefusal("no-key", what)
            sizes = {name: path.stat().st_size for name, (path, _) in made.files.items()}
            entry = Entry(self._work.rule, self.key, self._about, made.result, self._builder, sizes)
            for path, digest in made.files.values():
                self._files.put(path, digest, again=again)
            files = {name: digest for name, (_, digest) in made.files.items()}
            signed = canonical(sign_entry(entry, files, signer)).encode()
            self._client.write(f"{self._folder}/{signer.public_key.keyid}.dsse.json", signed)
            self.notes.append(f"shared: {self._about} (key {self.key[:16]}…)")

    def _disagree(self, makers: Sequence[tuple[str, str]]) -> bool:
        try:
            refuse_disagreement(makers, self._about)
        except CacheRefusal as refusal:
            self.notes.append(f"alarm: {refusal}")
            return True
        return False

    @property
    def _folder(self) -> str:
        return f"entries/{self._work.rule}/{self.key}"

    def _row(self) -> str:
        if isinstance(self._job, Predict):
            return "predictions"
        row = getattr(self._job, "row", None)
        return "" if row is None else row.name

    def _fetch(self, one: Believed, scratch: Path | None) -> dict[str, bytes]:
        """Download an entry's files: those of a tree into ``scratch``, the others into memory."""
        for left in scratch.iterdir() if scratch else ():  # of an entry that was not right
            remove_tree(left) if left.is_dir() else left.unlink()
        small = {}
        with TemporaryDirectory(prefix="phiforge-cache-") as folder:
            for name, digest in sorted(one.files.items()):
                if name.startswith(TREE) and scratch is not None:
                    into = scratch / name.removeprefix(TREE)
                else:
                    into = Path(folder) / "file"
                into.unlink(missing_ok=True)
                self._files.get(name, digest, into, one.entry.sizes[name])
                if name.startswith(SMALL):
                    small[name.removeprefix(SMALL)] = into.read_bytes()
        return small

    @contextmanager
    def _told(self, what: str = "not taken") -> Iterator[None]:
        """Note an entry that cannot be used, whatever is wrong with it, and go on."""
        try:
            yield
        except PublishError:
            raise
        except PhiforgeError as error:
            name = getattr(error, "name", "")
            said = str(error) if name in str(error) else f"{name}: {error}"
            self.notes.append(f"{what}: {said}")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Of a document that a believed key signed, and that has not the form it should have.
            self.notes.append(f"{what}: malformed: {type(error).__name__}: {error}")
