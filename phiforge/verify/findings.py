"""Describe what a verification finds: one line each, with a name that programs can rely on."""

from dataclasses import dataclass

from phiforge.artifact.checksums import visible
from phiforge.trust import TrustError


@dataclass(frozen=True)
class Finding:
    """One thing that stands against a release, or that its reader should know.

    Attributes:
        name: what is wrong, kebab-case; stable.
        where: the file inside the release, or empty.
        what: for people.
        refuses: False: a note.
    """

    name: str
    what: str
    where: str = ""
    refuses: bool = True

    @classmethod
    def of(cls, error: TrustError) -> "Finding":
        """Return the finding that ``error`` comes to."""
        return cls(error.name, error.what, error.where)

    def line(self) -> str:
        """Return one line of visible ASCII, whatever a hostile file has put into it."""
        grade = "refused" if self.refuses else "note"
        place = f"{self.where}: " if self.where else ""
        return visible(f"{grade} {self.name}: {place}{self.what}")
