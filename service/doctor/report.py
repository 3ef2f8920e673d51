"""What was found on the whole way: which hop has which fault, as text or as JSON.

Of several addresses, from the outermost to the service's own, a fault is the hop's that listens where it is seen last: further
inside it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .checks import FAULTS, Examination, Fault
from .hops import NAMES
from .remedies import MEANINGS, remedies


class Finding(NamedTuple):
    """One fault: where it is seen last, and whether that is certainly the hop that listens there."""

    fault: Fault
    address: str
    hops: tuple[str, ...]
    evidence: str
    is_certain: bool


def findings(examinations: Sequence[Examination]) -> list[Finding]:
    """Return the faults of the way. ``examinations`` are in its order, outermost first."""
    found = []
    for fault in FAULTS:
        seen = [place for place, each in enumerate(examinations) if fault in each.evidence]
        if not seen:
            continue
        last = examinations[seen[-1]]
        # One that is not seen further inside, where it was looked for.
        inside = examinations[seen[-1] + 1 :]
        is_certain = any(fault not in each.skipped for each in inside)
        found.append(Finding(fault, last.address, _at(last, inside), last.evidence[fault], is_certain))
    return found


def _at(examination: Examination, inside: Sequence[Examination]) -> tuple[str, ...]:
    """The hops that may be meant: those that are not seen further inside."""
    behind = {hop for each in inside for hop in each.hops}
    return tuple(hop for hop in examination.hops if hop not in behind) or examination.hops


def as_document(examinations: Sequence[Examination]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    found = findings(examinations)
    return {
        "healthy": not found,
        "findings": [
            {
                "fault": each.fault,
                "address": each.address,
                "hops": list(each.hops),
                "certain": each.is_certain,
                "evidence": each.evidence,
                "remedies": remedies(each.fault, each.hops),
            }
            for each in found
        ],
        "addresses": [
            {
                "address": each.address,
                "hops": list(each.hops),
                "faults": [fault for fault in FAULTS if fault in each.evidence],
                "skipped": list(each.skipped),
                "notes": each.notes,
            }
            for each in examinations
        ],
    }


def as_lines(examinations: Sequence[Examination]) -> Iterator[str]:
    """Yield the lines that a person reads."""
    for each in examinations:
        way = " > ".join(NAMES[hop] for hop in each.hops) or "nobody that says so"
        yield f"{each.address} (on the way: {way})"
        for fault in FAULTS:
            if fault in each.evidence:
                yield f"  {fault:<11} {each.evidence[fault]}"
            else:
                yield f"  {fault:<11} {'not looked for' if fault in each.skipped else 'no'}"
        yield from (f"  note: {note}" for note in each.notes)
    found = findings(examinations)
    for finding in found:
        yield ""
        names = " or ".join(NAMES[hop] for hop in finding.hops)
        who = names or "Some hop"
        where = f"at {finding.address}" if finding.is_certain else f"at {finding.address}, or behind it"
        yield f"{who}, {where}, {MEANINGS[finding.fault]}."
        for hop, text in remedies(finding.fault, finding.hops).items():
            yield f"  {NAMES[hop]}: {text}"
    yield ""
    yield "Streams arrive as they were sent." if not found else f"{len(found)} to repair."
