"""Which hop it is, and what to do: from what was found at each address of a way."""

from __future__ import annotations

import pytest

from sse_kit.doctor.checks import FAULTS, Examination
from sse_kit.doctor.hops import NAMES, recognize
from sse_kit.doctor.remedies import MEANINGS, REMEDIES, remedies
from sse_kit.doctor.report import as_document, as_lines, findings


def test_a_fault_is_that_of_the_hop_behind_which_it_is_gone() -> None:
    """Of a CDN, a load balancer and nginx the one is named that listens where the fault is seen last."""
    way = [
        Examination("cdn", {"cuts": "ended", "caches": "kept"}, hops=("cloudfront", "aws-alb", "nginx")),
        Examination("lb", {"cuts": "ended"}, hops=("aws-alb", "nginx")),
        Examination("pod", hops=("nginx",)),
    ]

    cut, kept = findings(way)
    assert (cut.fault, cut.address, cut.hops, cut.is_certain) == ("cuts", "lb", ("aws-alb",), True)
    assert (kept.fault, kept.address, kept.hops, kept.is_certain) == ("caches", "cdn", ("cloudfront",), True)


def test_one_address_says_who_may_be_meant() -> None:
    """With one address alone, or where the others were not asked, the hop may be any on the way."""
    one = [Examination("cdn", {"buffers": "held"}, hops=("fastly", "nginx"))]
    (found,) = findings(one)
    assert (found.hops, found.is_certain) == (("fastly", "nginx"), False)

    (found,) = findings([*one, Examination("nginx", skipped=["buffers"], hops=("nginx",))])
    assert found.is_certain is False


def test_nothing_found_is_healthy() -> None:
    """Without a fault the document says healthy, and the text that streams arrive."""
    way = [Examination("a", notes=["a note"], skipped=["cuts"])]

    assert as_document(way)["healthy"] is True
    text = "\n".join(as_lines(way))
    assert "Streams arrive as they were sent." in text
    assert "note: a note" in text
    assert "not looked for" in text


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_remedy_at_every_hop(fault: str) -> None:
    """Whatever is found, wherever, there is something to do; where nobody is recognized all of it is told."""
    assert REMEDIES.keys() == MEANINGS.keys() == set(FAULTS)
    assert REMEDIES[fault].keys() == NAMES.keys()  # type: ignore[index]
    assert all(text.strip() for text in REMEDIES[fault].values())  # type: ignore[index]
    assert remedies(fault, ()).keys() == NAMES.keys()  # type: ignore[arg-type]
    assert remedies(fault, ("envoy",)).keys() == {"envoy"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "request_", "named", "hops"),
    [
        ({"server": "cloudflare", "cf-ray": "1"}, {}, ["cf-ray"], ("cloudflare",)),
        ({"server": "nginx/1.22.1", "via": "1.1 abc.cloudfront.net (CloudFront)"}, {}, [], ("cloudfront", "nginx")),
        ({"x-served-by": "cache-fra"}, {"via": "1.1 varnish"}, ["fastly-ff"], ("fastly",)),
        ({"akamai-grn": "0.1"}, {}, ["akamai-origin-hop"], ("akamai",)),
        ({"server": "istio-envoy"}, {}, ["x-amzn-trace-id"], ("aws-alb", "envoy")),
        ({"server": "gunicorn"}, {"via": "1.1 haproxy"}, ["x-forwarded-for"], ("haproxy",)),
        ({}, {}, [], ()),
    ],
)
def test_hops_are_known_by_what_they_add(
    answer: dict[str, str], request_: dict[str, str], named: list[str], hops: tuple[str, ...]
) -> None:
    """Proxies say who they are in fields of answers and of requests, the outermost first."""
    assert recognize(answer, request_, named) == hops
