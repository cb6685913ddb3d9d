"""What becomes of decisions that are kept."""

from __future__ import annotations

from typing import Final

from extproc.audit.writer import DecisionWriter
from extproc.observability.instruments import Instruments

_FULL: Final = "buffer"
_FAILED: Final = "disk"


class AuditMetrics:
    """`extproc_audit_*`, refreshed when someone looks."""

    def __init__(self, instruments: Instruments, writer: DecisionWriter) -> None:
        self._writer = writer
        self._written = instruments.counter(
            "extproc_audit_decisions_total", "Decisions that were written to --audit-dir."
        ).child()
        self._bytes = instruments.counter("extproc_audit_bytes_total", "Bytes of them, before files are packed.").child()
        dropped = instruments.counter(
            "extproc_audit_dropped_total",
            "Decisions that were not written: too many waited (buffer), or the disk took none (disk).",
            ["reason"],
        )
        self._full, self._failed = dropped.child(_FULL), dropped.child(_FAILED)
        self._waiting = instruments.gauge("extproc_audit_waiting_bytes", "Decisions that wait to be written.").child()
        self._up = instruments.gauge(
            "extproc_audit_up", "1 while decisions can be written; at 0 they are dropped, and requests are served all the same."
        ).child()
        files = instruments.counter(
            "extproc_audit_files_total", "Files of decisions that were closed, and deleted for their age or size.", ["what"]
        )
        self._closed, self._deleted = files.child("closed"), files.child("deleted")
        self._torn = instruments.counter(
            "extproc_audit_torn_lines_total", "Lines that a process which was killed had begun, and that were cut off."
        ).child()
        instruments.before_collect.append(self._refresh)

    def _refresh(self) -> None:
        writer, counts = self._writer, self._writer.counts
        self._written.value = float(counts.written)
        self._bytes.value = float(counts.bytes)
        self._full.value = float(writer.waiting.full)
        self._failed.value = float(counts.failed)
        self._waiting.value = float(writer.waiting.size_bytes)
        self._up.value = 0.0 if writer.problem else 1.0
        self._closed.value = float(counts.closed)
        self._deleted.value = float(counts.deleted)
        self._torn.value = float(counts.torn)
