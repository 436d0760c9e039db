"""The page's templates and assets, as text."""

from functools import partial
from importlib.resources import files

import jinja2
from markupsafe import Markup, escape

from daemon.command_text import addressed
from daemon.language import _, grouped, ngettext
from daemon.lines import State
from daemon.reports import explain, meanings
from daemon.reports.formats import local_time
from daemon.reports.pace import pace_sentence
from daemon.web import chart, list_wording, wording

ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "page.svg": "image/svg+xml",
}
"""Files of the page and their content types."""


class Renderer:
    """Fills templates; commands in them get the option that names this instance."""

    def __init__(self, command_option: str) -> None:
        self._option = command_option
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("daemon.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters["code_spans"] = code_spans
        # For commands that the templates split into words, which `render` cannot recognise.
        self._environment.filters["addressed"] = partial(addressed, option=command_option)
        self._environment.globals |= {
            "_": _,
            "ngettext": ngettext,
            "grouped": grouped,
            "State": State,
            "STATES": chart.STATES,
            "KINDS": chart.KINDS,
            "list_wording": list_wording,
            "wording": wording,
            "meanings": meanings,
            "explain": explain,
            "local_time": local_time,
            "pace_sentence": pace_sentence,
        }

    def render(self, template: str, values: dict[str, object]) -> str:
        """Return a template's HTML."""
        text = self._environment.get_template(template).render(values)
        return addressed(text, str(escape(self._option)))


def load_assets() -> dict[str, str]:
    """Return the text of each asset by name."""
    folder = files("daemon.web")
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ASSETS}


def code_spans(text: str) -> Markup:
    """Escape a sentence, and mark up what is between backticks as code."""
    pieces = [escape(piece) for piece in text.split("`")]
    marked = [
        Markup("<code>{}</code>").format(piece) if index % 2 else piece
        for index, piece in enumerate(pieces)
    ]
    return Markup().join(marked)
