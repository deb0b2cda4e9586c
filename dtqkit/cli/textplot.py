"""Bars of text, for a terminal or a log."""

from collections.abc import Sequence

from dtqkit.capacity.formatting import number

WIDTH = 40


def bars(title: str, points: Sequence[tuple[str, float]], *, limit: float | None = None) -> str:
    """One line per point; `|` marks the limit."""
    if not points:
        return f"{title}: nothing to draw"
    most = max([value for _, value in points] + [limit or 0.0]) or 1.0
    label_width = max(len(label) for label, _ in points)
    mark = None if limit is None else min(WIDTH - 1, round(WIDTH * limit / most))
    lines = [title]
    for label, value in points:
        cells = list(("█" * round(WIDTH * value / most)).ljust(WIDTH))
        if mark is not None:
            cells[mark] = "|"
        lines.append(f"{label:>{label_width}} {''.join(cells)} {number(value)}")
    if limit is not None:
        lines.append(f"{'':>{label_width}} | at {limit:g}: the objective")
    return "\n".join(lines)
