"""What to do about each fault, at each hop that is known."""

from __future__ import annotations

from .checks import Fault

#: What a fault is, for people.
MEANINGS: dict[Fault, str] = {
    "downgrades": "speaks HTTP/1.0 to the next one, which has no keepalive and no chunks",
    "compresses": "compresses the stream, which holds events back until a block is full",
    "strips": "takes Last-Event-ID away, so who comes back misses events without being told",
    "buffers": "holds events back until a buffer is full",
    "cuts": "ends streams that are silent for a moment",
    "caches": "keeps an answer and gives it to others",
}

REMEDIES: dict[Fault, dict[str, str]] = {
    "downgrades": {
        "nginx": 'proxy_http_version 1.1; proxy_set_header Connection "";',
        "f5-nic": "It speaks HTTP/1.1 to its upstreams: look for proxy_http_version in its snippets.",
        "haproxy": "mode http, which speaks HTTP/1.1; look for a reqrep or http-request rule that changes the version.",
        "envoy": "It speaks HTTP/1.1 or 2 to its clusters: look at the hop in front of it.",
        "aws-alb": "Protocol version of the target group: HTTP1, which is HTTP/1.1.",
        "cloudflare": "It speaks HTTP/1.1 or 2 to the origin: look at the hop behind it.",
        "cloudfront": "It speaks HTTP/1.1 to the origin: look at the hop behind it.",
        "fastly": "It speaks HTTP/1.1 to backends: look at the hop behind it.",
        "akamai": "It speaks HTTP/1.1 to the origin unless told otherwise: look at the hop behind it.",
    },
    "compresses": {
        "nginx": "gzip off; in the location of the streams (and brotli off; where that module is loaded).",
        "f5-nic": "nginx.org/location-snippets: gzip off;",
        "haproxy": "Leave text/event-stream out of `compression type`.",
        "envoy": "Leave text/event-stream out of the compressor's content_type, or disable the filter for the route.",
        "aws-alb": "It does not compress: look at the target.",
        "cloudflare": "A Compression Rule for the path: disable compression.",
        "cloudfront": "Compress objects automatically: No, in the behavior of the path.",
        "fastly": "Leave text/event-stream out of the gzip settings; in VCL: set beresp.gzip = false;",
        "akamai": "Behavior Last Mile Acceleration (gzip): never compress, for the path.",
    },
    "strips": {
        "nginx": 'Remove proxy_set_header Last-Event-ID "" and proxy_pass_request_headers off.',
        "f5-nic": "VirtualServer: requestHeaders.pass: true; Ingress: look at proxy_set_header in its snippets.",
        "haproxy": "Remove http-request del-header Last-Event-ID.",
        "envoy": "Remove it from request_headers_to_remove; Gateway API: from RequestHeaderModifier.remove.",
        "aws-alb": "It passes the header on: look at the hops beside it.",
        "cloudflare": "Transform Rules, Modify Request Header, and Workers: let Last-Event-ID pass.",
        "cloudfront": "An origin request policy with Last-Event-ID, or AllViewer: by default it is not forwarded.",
        "fastly": "Remove unset req.http.Last-Event-ID (or bereq) from VCL.",
        "akamai": "Behavior Modify Incoming Request Header: let Last-Event-ID pass.",
    },
    "buffers": {
        "nginx": "proxy_buffering off; and no proxy_ignore_headers X-Accel-Buffering.",
        "f5-nic": 'Ingress: nginx.org/proxy-buffering: "false"; VirtualServer: upstream buffering: false.',
        "haproxy": "option http-no-delay, and no filter or Lua that waits for the whole response.",
        "envoy": "ext_proc: response_body_mode STREAMED or NONE; no Lua that reads body() of a response.",
        "aws-alb": "Targets of type lambda are buffered whole: use targets of type instance or ip.",
        "cloudflare": "Response buffering off for the zone; no Worker that reads the whole body.",
        "cloudfront": "It passes on what comes: look at the hop behind it, and at functions on origin responses.",
        "fastly": "Streaming miss: set beresp.do_stream = true; in vcl_fetch, and return(pass); in vcl_recv.",
        "akamai": "Caching: no store for the path, and no behavior that needs the whole object, such as ESI.",
    },
    "cuts": {
        "nginx": "proxy_read_timeout (and send_timeout) well above the keepalive of the service: 60s.",
        "f5-nic": 'Ingress: nginx.org/proxy-read-timeout: "60s"; VirtualServer: upstream read-timeout: 60s.',
        "haproxy": "timeout server and timeout client well above the keepalive of the service: 60s.",
        "envoy": "timeout: 0s for the route (15 s by default, for the whole answer), idle_timeout above the keepalive; "
        "Gateway API: timeouts.request: 0s.",
        "aws-alb": "idle_timeout.timeout_seconds above the keepalive of the service: 60 or more.",
        "cloudflare": "It waits about 100 s for the next byte: a keepalive of the service below that.",
        "cloudfront": "Origin response timeout above the keepalive of the service: it bounds the time between two packets too.",
        "fastly": "between_bytes_timeout of the backend (10 s by default) above the keepalive of the service.",
        "akamai": "Behavior Read Timeout above the keepalive of the service.",
    },
    "caches": {
        "nginx": "proxy_cache off; for the streams, and no proxy_ignore_headers Cache-Control.",
        "f5-nic": "No proxy_cache in snippets and no cache for the path of the streams.",
        "haproxy": "No http-request cache-use for the path.",
        "envoy": "Disable the cache filter for the route.",
        "aws-alb": "It does not cache: look at the hops beside it.",
        "cloudflare": "A Cache Rule for the path: bypass cache.",
        "cloudfront": "Cache policy CachingDisabled, in the behavior of the path.",
        "fastly": "return(pass); in vcl_recv for the path.",
        "akamai": "Behavior Caching: no store, or bypass cache.",
    },
}


def remedies(fault: Fault, hops: tuple[str, ...]) -> dict[str, str]:
    """Return what to do about a fault, by hop: at those that were recognized, or else at all that are known.

    Behind "nginx" may be its Ingress Controller, which is configured in another way.
    """
    known = REMEDIES[fault]
    wanted = (*hops, "f5-nic") if "nginx" in hops else hops
    return {hop: text for hop, text in known.items() if not hops or hop in wanted}
