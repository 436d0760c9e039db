"""Reads HTML as strictly as a browser does not: what is wrong is an error, not repaired."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "hr", "img"}
DRAWN = {"circle", "line", "path", "rect"}
REFERRING = ("aria-labelledby", "aria-describedby", "for")
HEADINGS = {f"h{level}": level for level in range(1, 7)}


class Strict(HTMLParser):
    """Collects text, ids and faults of a document or a piece of one."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.labels: set[str] = set()
        self.inputs: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.landmarks: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self._conclude()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._begun(tag, attrs)
        if tag in VOID:
            return
        if tag in DRAWN:
            self.faults.append(f"<{tag}> is not closed")
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in DRAWN:
            self.faults.append(f"<{tag}/> closes nothing in HTML")
        self._begun(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes what is not open")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data)
            if self._open and self._open[-1] in {"script", "style"}:
                self.faults.append(f"inline <{self._open[-1]}>")

    def _begun(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        given = dict(attrs)
        if len(names) != len(given):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.faults += [
            f"<{tag} {name}>" for name in names if name == "style" or name.startswith("on")
        ]
        if given.get("id"):
            self.ids.append(given["id"] or "")
        for name in REFERRING:
            self.referred += (given.get(name) or "").split()
        if tag == "label":
            self.labels.add(given.get("for") or "")
        if tag == "input":
            self.inputs.append(given)
        if tag in HEADINGS:
            self.headings.append(HEADINGS[tag])
        if tag == "th" and given.get("scope") not in {"col", "row"}:
            self.faults.append("a <th> without scope")
        if tag in {"header", "main", "footer"} or "role" in given:
            self.landmarks.append(given.get("role") or tag)

    def _conclude(self) -> None:
        if self._open:
            self.faults.append(f"never closed: {self._open}")
        self.faults += [f"id {name} twice" for name in self.ids if self.ids.count(name) > 1]
        self.faults += [f"no id {name}" for name in self.referred if name not in self.ids]
        self.faults += [
            f"no label for {given}" for given in self.inputs if given.get("id") not in self.labels
        ]
        for before, after in zip(self.headings, self.headings[1:], strict=False):
            if after > before + 1:
                self.faults.append(f"h{after} follows h{before}")
