"""Tables, tiles and figures → one self-contained HTML document: no request leaves it, and its tables need no script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal

from amble.stages.check.cells import Table
from amble.stages.check.plots import plotly_js

__all__ = ["Plot", "Section", "Tile", "document"]

Mood = Literal["", "good", "bad", "unsure"]

_VERDICTS: dict[str, Mood] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "unsure"}
_UNBROKEN = re.compile(r"(?<=\d) (?=[A-Za-zµ%])|(?<=core|mory) (?=\d)|(?<=cpu) (?=\d)")
_NUMBER = re.compile(r"[≤+±−-]?\s?\d.*|unknown|no labels|")


@dataclass(frozen=True, slots=True)
class Tile:
    """One finding in plain words: what it is about, the finding itself, and one sentence more."""

    label: str
    value: str
    more: str = ""
    mood: Mood = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure (plotly's JSON), and what to see in it."""

    title: str
    caption: str
    figure: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with tables and plots under it; ``folded`` hides it until it is asked for."""

    title: str
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    folded: bool = False


def document(title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section], *, banner: str = "") -> str:
    """Return a whole page. ``lead`` is one sentence under the title, ``banner`` what the reader must know first."""
    has_plots = any(section.plots for section in sections)
    script = f"<script>{plotly_js()}</script><script>{_resource('page.js')}</script>" if has_plots else ""
    body = "\n".join(_section(section, index) for index, section in enumerate(sections))
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        lead=_words(lead),
        banner=_banner(banner),
        style=_resource("page.css"),
        tiles=f'<div class="tiles">{"".join(_tile(tile) for tile in tiles)}</div>' if tiles else "",
        body=body,
        script=script,
    )


def _resource(name: str) -> str:
    return (files("amble.stages.check") / name).read_text(encoding="utf-8")


def _banner(text: str) -> str:
    if not text:
        return ""
    doubtful = "uncalibrated" in text.lower()
    return f'<p class="banner{" doubtful" if doubtful else ""}" role="note">{_words(text)}</p>'


def _tile(tile: Tile) -> str:
    more = f"<p>{_words(tile.more)}</p>" if tile.more else ""
    return (
        f'<article class="tile {tile.mood}"><h3>{escape(tile.label)}</h3>'
        f'<p class="value">{_words(tile.value)}</p>{more}</article>'
    )


def _words(text: str) -> str:
    """Escape a text, and keep each number on one line with its unit."""
    return escape(_UNBROKEN.sub("\u00a0", text))


def _section(section: Section, index: int) -> str:
    inside = "".join(_plot(plot, f"plot-{index}-{i}") for i, plot in enumerate(section.plots))
    inside += "".join(_table(table, named=table.title != section.title) for table in section.tables)
    title = escape(section.title)
    if section.folded:
        return f"<section><details><summary><h2>{title}</h2></summary>{inside}</details></section>"
    return f"<section><h2>{title}</h2>{inside}</section>"


def _plot(plot: Plot, key: str) -> str:
    return (
        f"<figure><figcaption><strong>{escape(plot.title)}.</strong> {_words(plot.caption)}</figcaption>"
        f'<div class="plot" id="{key}" role="img" aria-label="{escape(plot.title)}"></div>'
        f'<script type="application/json" data-for="{key}">{plot.figure}</script></figure>'
    )


def _table(table: Table, *, named: bool) -> str:
    numeric = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    header = "".join(_cell("th", text, right) for text, right in zip(table.columns, numeric, strict=True))
    rows = "".join(_row(row, numeric, index in table.marked) for index, row in enumerate(table.rows))
    head = f"<thead><tr>{header}</tr></thead>" if any(table.columns[1:]) else ""
    caption = f"<caption>{escape(table.title)}</caption>" if named else ""
    notes = "".join(f'<p class="note">{_words(note)}</p>' for note in table.notes)
    return f'<div class="scroll"><table>{caption}{head}<tbody>{rows}</tbody></table></div>{notes}'


def _row(cells: Sequence[str], numeric: Sequence[bool], marked: bool) -> str:
    inside = "".join(_cell("td", text, right) for text, right in zip(cells, numeric, strict=True))
    return f"<tr{' class=mine' if marked else ''}>{inside}</tr>"


def _is_numeric(cells: Sequence[str]) -> bool:
    return any(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)


def _cell(tag: str, text: str, right: bool) -> str:
    word = text.partition(":")[0]
    if tag == "td" and word in _VERDICTS:
        rest = _words(text.removeprefix(word))
        return f'<td><span class="chip {_VERDICTS[word]}">{word}</span>{rest}</td>'
    return f"<{tag}{' class=num' if right else ''}>{_words(text)}</{tag}>"
