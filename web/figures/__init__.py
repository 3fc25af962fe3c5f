"""Figures as plain Plotly JSON, built from records: the pages only draw what these functions return.

Every chart comes with a sentence that says what it shows and a small table of its numbers, so that
it can be read without being seen. Nothing here knows a page, a request or a store.
"""

from web.figures.axes import Axes
from web.figures.chart import Chart
from web.figures.curves import Curve, curves_chart
from web.figures.lines import Line, line_chart
from web.figures.savings import savings_chart
from web.figures.tradeoff import X_AXES, tradeoff_chart

__all__ = ["X_AXES", "Axes", "Chart", "Curve", "Line", "curves_chart", "line_chart", "savings_chart", "tradeoff_chart"]
