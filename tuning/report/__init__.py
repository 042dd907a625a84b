"""The report of a study: one HTML file that needs no network."""

from tuning.report.page import write_report

__all__ = ["write_report"]
