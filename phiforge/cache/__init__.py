"""Share what agents have made: builds, references, placements and receipts, each signed.

    <storage>/entries/<rule>/<key>/<keyid>.dsse.json   who has made what of which inputs
    <storage>/files/<sha256, 2 digits>/<sha256>        the files themselves

A key names everything that shapes a result. An entry counts if a configured key signed it and every
byte of its files is what it says. Whatever else is found there, is missing, or takes too long costs
time: the job does its own work, and its log says why.
"""

from phiforge.errors import PhiforgeError

PAYLOADS = "PHIFORGE_PAYLOADS"  # a storage as JSON; empty: machines share files
CACHE = "PHIFORGE_CACHE"  # config key `cache` as JSON, which Snakemake gives to its jobs


class CacheRefusal(PhiforgeError):
    """An entry is not taken, or nothing is put into the cache.

    Attributes:
        name: kebab-case, stable.
    """

    def __init__(self, name: str, what: str, where: object = None) -> None:
        super().__init__(f"{name}: {what}", where=None if where is None else str(where))
        self.name = name
