"""What a verification finds: one line each, with a name that programs can rely on."""

from dataclasses import dataclass

from phiforge.artifact.checksums import visible
from phiforge.errors import PhiforgeError


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

    def line(self) -> str:
        """One line of visible ASCII, whatever a hostile file has put into it."""
        grade = "refused" if self.refuses else "note"
        place = f"{self.where}: " if self.where else ""
        return visible(f"{grade} {self.name}: {place}{self.what}")


class Refusal(PhiforgeError):
    """What is read cannot be trusted; ends one check, and becomes its finding."""

    def __init__(self, name: str, what: str, where: str = "") -> None:
        super().__init__(visible(what), where=visible(where) or None)
        self.finding = Finding(name, what, where)
