# SPDX-License-Identifier: Apache-2.0
"""One zip that somebody else can check: records and proofs (`topics.audit_export`), whom to believe as it is stated
here, reports for people in French and English, and verifiers that are not ours to run.

What is audited first is what is taken out, and an excerpt is audited once more as its reader will. If we crash, no file
stands under the name that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import Language
from topics.audit import Report, audit
from topics.audit_export import Choice, Exported, export
from topics.audit_findings import Progress
from topics.evidence_files import POLICY, ROOT, EvidenceSource, add_to, put_in_place
from umuhuza.audit_page import page_of
from umuhuza.audit_report import listed, report_sheet
from umuhuza.audit_sources import Opened

REPORTS: Mapping[Language, str] = {"fr": "rapport", "en": "report"}
"""As a page and as PDF."""
_VERIFIERS = (Path(__file__).resolve().parent / "verify", Path(__file__).resolve().parent.parent / "docs" / "verify")
"""As a package has them, and as the source has them, where readers find them."""


def write_evidence(
    opened: Opened, out: Path, choice: Choice, made_at: int, progress: Progress, processes: int = 1
) -> tuple[Report, Exported | None]:
    """Audit, then write. The second is None when nothing is signed that evidence could be proved under.

    Args:
        made_at: seconds since the epoch.
        processes: that share out the signatures.

    Raises LogError.
    """
    report = audit(opened.source, opened.trust, progress=progress, processes=processes)
    head = report.endorsed or report.signed
    if head is None:
        return report, None
    making = out.with_name(f"{out.name}.{os.getpid()}.making")
    try:
        beside = {POLICY: opened.policy.dumps(), ROOT: opened.root.encode("ascii") + b"\n", **verifiers()}
        done = export(opened.source, head, making, made_at=made_at, choice=choice, beside=beside, progress=progress)
        add_to(making, _reports(opened, report if choice.everything else None, making, made_at))
        put_in_place(making, out)
    finally:
        making.unlink(missing_ok=True)
    return report, done


def _reports(opened: Opened, report: Report | None, evidence: Path, made_at: int) -> dict[str, bytes]:
    """For people, by name; `report` is None for an excerpt, which is then audited as its reader will."""
    from umuhuza.audit_pdf import pdf_of  # its library takes a while to load

    source = EvidenceSource.open(evidence)
    try:
        records = () if report is not None else tuple(listed(source))
        found = report or audit(source, opened.trust)
    finally:
        source.close()
    members: dict[str, bytes] = {}
    for language, name in REPORTS.items():
        sheet = report_sheet(found, language, made_at=made_at, stated=opened.stated, keys=opened.keys, records=records)
        members[f"{name}.html"] = page_of(sheet).encode("utf-8")
        members[f"{name}.pdf"] = pdf_of(sheet)
    return members


def verifiers() -> dict[str, bytes]:
    """Programs and a page of others' making, by their names in the zip."""
    folder = next(one for one in _VERIFIERS if one.is_dir())
    return {
        f"verify/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
