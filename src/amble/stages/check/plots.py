"""The one module that needs plotly (extra ``plots``): empty figures in amble's look, and what plotly.js draws of them.

Colours are names of CSS variables (``var(--accent)``), which the page fills in for a light or a dark screen. Series
differ in dash and marker too, never in colour alone. Plotly has no types, so its objects are ``Any`` here.
"""

from __future__ import annotations

from typing import Any

from amble.core.errors import Refused, how_to_install

__all__ = [
    "NUM_COLORS",
    "axis",
    "color",
    "columns",
    "dash",
    "draw",
    "figure",
    "graph_objects",
    "limit",
    "plotly_js",
    "rows",
    "symbol",
]

NUM_COLORS = 7
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("star", "diamond", "square", "triangle-up", "circle", "cross", "x")


def graph_objects() -> Any:
    """Return ``plotly.graph_objects``; Refused when plotly is not installed."""
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise Refused(f"plots need plotly: {how_to_install('plots')}") from error
    return plotly.graph_objects


def plotly_js() -> str:
    """Return plotly.js itself, to be put into a page."""
    graph_objects()
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def figure(x_axis: dict[str, Any], y_axis: dict[str, Any]) -> Any:
    """Return an empty figure with these axes."""
    return graph_objects().Figure(layout=_look()).update_xaxes(x_axis).update_yaxes(y_axis)


def rows(heights: list[float]) -> Any:
    """Return empty plots one below the other, of these relative heights, over one time axis."""
    graph_objects()
    from plotly.subplots import make_subplots

    count = len(heights)
    empty = make_subplots(rows=count, cols=1, shared_xaxes=True, vertical_spacing=0.12 / count, row_heights=heights)
    return empty.update_layout(_look())


def columns(widths: list[float]) -> Any:
    """Return empty plots side by side, of these relative widths."""
    graph_objects()
    from plotly.subplots import make_subplots

    empty = make_subplots(rows=1, cols=len(widths), column_widths=widths, horizontal_spacing=0.12)
    return empty.update_layout(_look())


def axis(title: str = "", unit: str = "") -> dict[str, Any]:
    """Return how an axis looks; with an SI unit the page picks the prefix (14 ms, 152 mJ)."""
    look = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "automargin": True}
    ticks = {"tickformat": "~s", "ticksuffix": unit} if unit else {}
    return {**look, **ticks, **({"title": title} if title else {})}


def limit(drawn: Any, x: float, text: str) -> None:
    """Draw a named upright line."""
    style = {"color": "var(--fail)", "width": 1.4, "dash": "dash"}
    drawn.add_vline(x=x, line=style, annotation_text=text, annotation_font_color="var(--fail)")


def draw(drawn: Any) -> str:
    """Return a figure as the JSON that plotly.js takes, safe inside a script element."""
    return str(drawn.to_json()).replace("<", "\\u003c")


def color(index: int) -> str:
    """Return the colour of a series."""
    return f"var(--series-{index % NUM_COLORS + 1})"


def dash(index: int) -> str:
    """Return the dash of a series."""
    return _DASHES[index % len(_DASHES)]


def symbol(index: int) -> str:
    """Return the marker of a series."""
    return _SYMBOLS[index % len(_SYMBOLS)]


def _look() -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--ink)", "family": "inherit", "size": 13},
        "margin": {"l": 64, "r": 20, "t": 12, "b": 48},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
        "height": 400,
    }
