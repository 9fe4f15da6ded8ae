"""Read a page as a browser's parser would: its elements, its text, and what it would load."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "br", "img", "input", "hr"}
# Attributes by which an element loads something of its own accord.
LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "manifest"}


@dataclass
class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: every element with its attributes.
        unclosed: elements that no end tag closed, or that another one's end tag did.
    """

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        (self.styles if self._open[-1:] == ["style"] else self.text).append(data)

    def close(self) -> None:
        super().close()
        self.unclosed += self._open

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def loads(self) -> list[str]:
        """What a browser would ask for: addresses, and styles that name one."""
        found = [f"<{name}>" for name, _ in self.elements if name in ("script", "iframe", "object")]
        for name, attributes in self.elements:
            found += [attributes[key] for key in LOADING & attributes.keys()]
            if name in ("link", "image", "use", "img"):
                found += [v for k, v in attributes.items() if k in ("href", "xlink:href")]
            found += [v for v in attributes.values() if "url(" in v and "url(#" not in v]
        found += [text for text in self.styles if "url(" in text or "@import" in text]
        return [one for one in found if not one.startswith(("data:", "#"))]


def parse(path: Path) -> Page:
    """Parse a page whole."""
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page


def text_of(path: Path) -> str:
    """What a reader sees, with single spaces."""
    return " ".join(" ".join(parse(path).text).split())
