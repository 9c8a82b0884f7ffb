"""What a report page shows: its tables, headline figures and sentences, as text."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Rows of the tables of a page, by their heading; headline figures and sentences."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.figures: dict[str, str] = {}
        self.sentences: list[str] = []
        self._heading = ""
        self._open: list[str] | None = None
        self._figure = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "figcaption"):
            self._heading = ""
            self._open = []
        elif tag == "table":
            self.tables[self._heading] = []
        elif tag == "tr":
            self.tables[self._heading].append([])
        elif tag in ("th", "td", "li") or (tag == "p" and ("class", "figure") in attrs):
            self._open = []

    def handle_endtag(self, tag: str) -> None:
        if self._open is None or tag not in ("h2", "figcaption", "th", "td", "li", "p"):
            return
        text = " ".join("".join(self._open).split())
        if tag in ("h2", "figcaption"):
            self._heading = text
        elif tag in ("th", "td"):
            self.tables[self._heading][-1].append(text)
        elif tag == "li":
            self.sentences.append(text)
        else:
            self.figures[self._heading] = text
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open.append(data)

    def table(self, start: str) -> list[list[str]]:
        """Rows of the table whose heading starts with this."""
        return next(rows for heading, rows in self.tables.items() if heading.startswith(start))
