"""The audit of a study: what early stopping cost it."""

from tuning.audit.audited import Audit, audit
from tuning.audit.shown import AUDIT, audit_folder, print_audit

__all__ = ["AUDIT", "Audit", "audit", "audit_folder", "print_audit"]
