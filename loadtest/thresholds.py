"""Pass or fail: the bounds of the options against what was measured. No clock and no network: numbers in, judgements out."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.scenario import Result

#: By option: which percentile of which time it bounds.
TIMES = {
    "max_p50_ms": ("delivery", 50.0),
    "max_p95_ms": ("delivery", 95.0),
    "max_p99_ms": ("delivery", 99.0),
    "max_connect_p99_ms": ("connect", 99.0),
    "max_first_event_p99_ms": ("first event", 99.0),
    "max_reconnect_p99_ms": ("reconnect", 99.0),
    "max_late_p99_ms": ("own lateness", 99.0),
}
#: By option: which counter it bounds. Those of `Losses` are added to the counters before they are judged.
COUNTS = {
    "max_lost": "lost",
    "max_told": "told",
    "max_duplicate": "duplicate",
    "max_disorder": "disorder",
    "max_altered": "altered",
    "max_misdelivered": "misdelivered",
    "max_gaps": "gap",
    "max_wrong_status": "wrong status",
    "max_cut": "cut",
    "max_publish_errors": "publish error",
}


@dataclass(frozen=True)
class Judgement:
    """One bound: whether it holds, and both numbers in words."""

    what: str
    holds: bool
    found: str
    bound: str

    def __str__(self) -> str:
        return f"{'ok' if self.holds else 'FAILED':6} {self.what}: {self.found} ({self.bound})"


def judge(result: Result) -> list[Judgement]:
    """Return a judgement for each bound that is set; a run in which nothing was measured fails whatever the bounds are."""
    measured, options = result.measured, result.options
    found = [
        Judgement("the run came to its end", False, obstacle, "nothing in its way") for obstacle in result.obstacles
    ]
    what = measured.counts["delivered"]
    found.append(Judgement("something was measured", what > 0, f"{what:,} events received", "at least 1"))
    never = measured.counts["never subscribed"]
    if never:
        found.append(Judgement("streams that never received anything", False, f"{never:,}", "at most 0"))
    for option, counter in COUNTS.items():
        bound = getattr(options, option)
        if bound >= 0:
            count = measured.counts[counter]
            found.append(Judgement(counter, count <= bound, f"{count:,}", f"at most {bound:,}"))
    for option, (name, percent) in TIMES.items():
        bound = getattr(options, option)
        if bound < 0:
            continue
        times = measured.times.get(name)
        if times is None or not times.count:
            # A bound on something that was never seen is not kept but untested.
            found.append(Judgement(f"{name} p{percent:g}", False, "never measured", f"at most {bound:g} ms"))
            continue
        value = times.percentile(percent)
        found.append(Judgement(f"{name} p{percent:g}", value <= bound, f"{value:.4g} ms", f"at most {bound:g} ms"))
    asked = measured.counts["asked"]
    if options.min_published > 0 and asked:
        share = 100 * measured.counts["published"] / asked
        bound_text = f"at least {options.min_published:g} %"
        found.append(
            Judgement("published of what was asked for", share >= options.min_published, f"{share:.1f} %", bound_text)
        )
    return found


def exit_code(judgements: list[Judgement]) -> int:
    """Return 0 if all of them hold, else 1."""
    return 0 if all(each.holds for each in judgements) else 1
