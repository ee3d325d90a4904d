# SPDX-License-Identifier: Apache-2.0
"""How `umuhuza demo` ends: everything is taken out into one file, and an auditor who has that file, and the keys of
ledger and witnesses from elsewhere, checks all of it again. What is told is what the audit found.
"""

from __future__ import annotations

import time
from pathlib import Path

from topics.audit import Report, audit
from topics.audit_export import EVERYTHING
from topics.audit_findings import silent_progress
from topics.cosigning import POLICY_FILE
from umuhuza.audit_evidence import write_evidence
from umuhuza.audit_sources import opened_source
from umuhuza.demo_neighbour import ABROAD
from umuhuza.demo_stage import DemoError, Stage
from umuhuza.words import program

EVIDENCE, POLICY = "preuve.zip", "confiance.policy"


def checked(stage: Stage) -> None:
    """Everything of each country in one file, and what an audit of that file alone says. Raises DemoError: it
    contradicts itself."""
    with stage.scene("evidence") as proof:
        report = _taken_out(stage.root, stage.home.ledger, stage.root / EVIDENCE, stage.root / POLICY)
        theirs = stage.root / ABROAD
        abroad = _taken_out(theirs, stage.abroad.ledger, theirs / EVIDENCE, theirs / POLICY)
        stage.tell(
            f"Tout tient dans un fichier. Un auditeur, sans réseau et sans clé qui ouvre, revérifie {report.records} "
            f"enregistrements et {report.promises} promesses : rien n'a été changé, omis, ajouté ni antidaté. De même "
            f"pour les {abroad.records} de la Tunisie.",
            "All of it is in one file. An auditor, without a network and without a key that opens, checks "
            f"{report.records} records and {report.promises} promises again: nothing was altered, left out, put in or "
            f"backdated. The same for Tunisia's {abroad.records}.",
            f"{program()} audit verify {stage.root / EVIDENCE} --policy {stage.root / POLICY}",
        )
        proof |= {
            "records": report.records,
            "promises": report.promises,
            "seen_by": _seen_by(report),
            "contradictions": report.findings.contradictions,
            "abroad": {
                "records": abroad.records,
                "seen_by": _seen_by(abroad),
                "contradictions": abroad.findings.contradictions,
            },
        }


def _taken_out(where: Path, ledger: Path, out: Path, policy: Path) -> Report:
    """Raises DemoError: it contradicts itself."""
    policy.write_bytes((ledger / POLICY_FILE).read_bytes())
    with opened_source(where) as domain:
        write_evidence(domain, out, EVERYTHING, int(time.time()), silent_progress)
        root = domain.root
    with opened_source(out, policy=policy, root=root) as evidence:
        report = audit(evidence.source, evidence.trust)
    if report.findings.contradictions:
        raise DemoError(f"audit: {dict(report.findings.counts)}")
    return report


def _seen_by(report: Report) -> list[str]:
    return sorted({name.partition("-")[0] for name in report.endorsed.by} if report.endorsed else ())
