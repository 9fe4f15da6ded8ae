"""Render Markdown and HTML from the templates of this folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def fill_in(template: str, filters: Mapping[str, Callable[..., str]], **facts: Any) -> str:
    """Render ``template``, a file of this folder, with ``facts``.

    Raises:
        jinja2.UndefinedError: the template names a fact that is not given.
    """
    import jinja2  # slow to import

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(["html.j2"]),  # Markdown is not HTML
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**facts)
