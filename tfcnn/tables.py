"""Tables as HTML, for results that notebooks show."""

import html
from collections.abc import Iterable, Sequence

STYLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"


def html_table(columns: Sequence[str], rows: Iterable[Sequence], note: str = "") -> str:
    """A table whose first column names the rows; colours are those of the notebook.

    Args:
        columns: their headings.
        rows: a value a column; numbers are set right, None is left empty.
        note: a sentence above.
    """
    head = "".join(f'<th scope="col" style="text-align:{"left" if place == 0 else "right"}">{_text(name)}</th>' for place, name in enumerate(columns))
    body = "".join(f"<tr>{''.join(_cell(place, value) for place, value in enumerate(row))}</tr>" for row in rows)
    said = f"<p>{_text(note)}</p>" if note else ""
    return f'{said}<table style="{STYLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def html_list(lines: Iterable[str]) -> str:
    """Sentences, one a line; nothing where there are none."""
    found = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{found}</ul>" if found else ""


def _cell(place: int, value) -> str:
    side = "left" if place == 0 or (isinstance(value, str) and not value[:1].isdigit()) else "right"
    tag = 'th scope="row"' if place == 0 else "td"
    return f'<{tag} style="text-align:{side};font-weight:{500 if place == 0 else 400}">{_text(value)}</{tag.split()[0]}>'


def _text(value) -> str:
    return html.escape("" if value is None else str(value))
