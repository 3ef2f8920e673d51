"""Times in buckets: small, exact to one part in 64, and of two processes simply added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Kept of a time in microseconds: this many leading bits.
_BITS = 7


class Histogram:
    """Times in milliseconds. Each is rounded down to seven significant bits of its microseconds; the greatest is kept exact."""

    __slots__ = ("_buckets", "count", "greatest", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.greatest = 0.0

    def add(self, milliseconds: float, times: int = 1) -> None:
        """Count a time. A negative one, which two clocks can make, counts as none."""
        value = int(milliseconds * 1000) if milliseconds > 0 else 0
        shift = value.bit_length() - _BITS
        if shift > 0:
            value = value >> shift << shift
        self._buckets[value] = self._buckets.get(value, 0) + times
        self.count += times
        self.total += max(milliseconds, 0.0) * times
        self.greatest = max(self.greatest, milliseconds)

    def add_all(self, other: Histogram) -> None:
        """Count everything that another one has counted."""
        for value, count in other._buckets.items():
            self._buckets[value] = self._buckets.get(value, 0) + count
        self.count += other.count
        self.total += other.total
        self.greatest = max(self.greatest, other.greatest)

    def percentile(self, percent: float) -> float:
        """Return the time, in milliseconds, that so many percent did not exceed; 0 if there was none."""
        rank = self.count * percent / 100
        seen = 0
        for value in sorted(self._buckets):
            seen += self._buckets[value]
            if seen >= rank:
                return value / 1000
        return self.greatest

    @property
    def mean(self) -> float:
        """The mean in milliseconds; 0 if there was none."""
        return self.total / self.count if self.count else 0.0

    def to_message(self) -> dict[str, object]:
        """Return it as what can be sent to another process."""
        return {"buckets": list(self._buckets.items()), "total": self.total, "greatest": self.greatest}

    @classmethod
    def from_message(cls, message: Mapping[str, object]) -> Histogram:
        """Return what `to_message` was made of."""
        made = cls()
        pairs = message["buckets"]
        assert isinstance(pairs, list | tuple)
        for value, count in pairs:
            made._buckets[int(value)] = int(count)
            made.count += int(count)
        made.total = float(str(message["total"]))
        made.greatest = float(str(message["greatest"]))
        return made

    @classmethod
    def of(cls, times: Iterable[float]) -> Histogram:
        """Return one that has counted these times, in milliseconds."""
        made = cls()
        for each in times:
            made.add(each)
        return made
