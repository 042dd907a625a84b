"""Charts of a report, as plotly figures. Knows no page."""
