"""Who is on the way, as far as it says so: by the fields that proxies add to answers and to requests."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

#: Hop -> its name for people, in the order in which they usually stand: outermost first.
NAMES = {
    "cloudflare": "Cloudflare",
    "cloudfront": "Amazon CloudFront",
    "fastly": "Fastly",
    "akamai": "Akamai",
    "aws-alb": "AWS Application Load Balancer",
    "envoy": "Envoy (Gateway API)",
    "haproxy": "HAProxy",
    "f5-nic": "F5 NGINX Ingress Controller",
    "nginx": "nginx",
}

# Field of an answer -> hop.
_OF_ANSWERS = {
    "cf-ray": "cloudflare",
    "cf-cache-status": "cloudflare",
    "x-amz-cf-id": "cloudfront",
    "x-amz-cf-pop": "cloudfront",
    "x-served-by": "fastly",
    "fastly-restarts": "fastly",
    "akamai-grn": "akamai",
    "x-akamai-request-id": "akamai",
    "x-envoy-upstream-service-time": "envoy",
}
# Field of a request -> hop.
_OF_REQUESTS = {
    "cf-ray": "cloudflare",
    "cf-connecting-ip": "cloudflare",
    "x-amz-cf-id": "cloudfront",
    "fastly-client-ip": "fastly",
    "fastly-ff": "fastly",
    "akamai-origin-hop": "akamai",
    "x-amzn-trace-id": "aws-alb",
    "x-envoy-expected-rq-timeout-ms": "envoy",
    "x-envoy-external-address": "envoy",
}
# Word in Server or Via -> hop.
_WORDS = {
    "cloudflare": "cloudflare",
    "cloudfront": "cloudfront",
    "akamai": "akamai",
    "awselb": "aws-alb",
    "envoy": "envoy",
    "haproxy": "haproxy",
    "nginx": "nginx",
}


def recognize(answer: Mapping[str, str], request: Mapping[str, str], named: Collection[str]) -> tuple[str, ...]:
    """Return the hops that are known by what they add. Names of fields are in lower case.

    ``answer`` are the fields of an answer's head, ``request`` those that arrived with their values, ``named`` those that
    arrived at all.
    """
    found = set(_recognized(answer, request, named))
    return tuple(hop for hop in NAMES if hop in found)


def _recognized(answer: Mapping[str, str], request: Mapping[str, str], named: Collection[str]) -> Iterator[str]:
    yield from (hop for field, hop in _OF_ANSWERS.items() if field in answer)
    yield from (hop for field, hop in _OF_REQUESTS.items() if field in named)
    words = " ".join((answer.get("server", ""), answer.get("via", ""), request.get("via", ""))).lower()
    yield from (hop for word, hop in _WORDS.items() if word in words)
