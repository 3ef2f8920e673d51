"""What a request for a generation says, checked as a whole: JSON bytes or a query in, a request out. No HTTP in here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ..problems import Problem

# msgspec names the place at the end of its message, as in: Expected `str`, got `int` - at `$.prompt`
_PLACE = re.compile(r" - at `\$\.([^`]*)`$")
# ... or the field itself, as in: Object contains unknown field `promt`
_FIELD = re.compile(r"field `([^`]*)`")

#: Of a query, and no part of the question: where to resume.
LAST_EVENT_ID = "last_event_id"
MAX_TEMPERATURE = 2.0


class GenerationRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One request as it is sent to ``/generate``. None: what the settings say."""

    prompt: str
    provider: str | None = None
    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


def from_json(body: bytes, *, max_prompt_bytes: int) -> GenerationRequest:
    """Return the request that a JSON object is.

    Raises `Problem`: 400 for what is no JSON or no such object, naming the field, and 413 for a prompt that is too long.
    """
    try:
        request = msgspec.json.decode(body, type=GenerationRequest)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid-json", str(error)) from None
    except RecursionError:
        raise Problem(400, "invalid-json", "The value is nested too deeply.") from None
    return _checked(request, max_prompt_bytes)


def from_query(parameters: Mapping[str, str | list[str]], *, max_prompt_bytes: int) -> GenerationRequest:
    """Return the request that a query is, with the same names. Raises the same."""
    members: dict[str, str] = {}
    for name, value in parameters.items():
        if name == LAST_EVENT_ID:
            continue
        if not isinstance(value, str):
            raise Problem(400, "invalid-generation", f"{name} is named more than once.", field=name)
        members[name] = value
    try:
        # Not strict: everything in a query is text.
        request = msgspec.convert(members, type=GenerationRequest, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    return _checked(request, max_prompt_bytes)


def _checked(request: GenerationRequest, max_prompt_bytes: int) -> GenerationRequest:
    if not request.prompt.strip():
        raise Problem(400, "invalid-generation", "The prompt is empty.", field="prompt")
    for field, text in (("prompt", request.prompt), ("system", request.system or "")):
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            # A lone surrogate, which JSON can escape and UTF-8 cannot carry any further.
            raise Problem(400, "invalid-generation", f"The {field} is no Unicode text.", field=field) from None
        if size > max_prompt_bytes:
            detail = f"The {field} has {size} bytes, and this server takes {max_prompt_bytes}."
            raise Problem(413, "too-large", detail, field=field, limit="max_prompt_bytes", value=max_prompt_bytes)
    if request.max_tokens is not None and request.max_tokens < 1:
        raise Problem(400, "invalid-generation", "max_tokens is at least 1.", field="max_tokens")
    # Also no number at all, which a query can say: nan is in no range.
    if request.temperature is not None and not 0 <= request.temperature <= MAX_TEMPERATURE:
        detail = f"The temperature is a number from 0 to {MAX_TEMPERATURE:g}."
        raise Problem(400, "invalid-generation", detail, field="temperature")
    return request


def _invalid(error: msgspec.ValidationError) -> Problem:
    match = _PLACE.search(str(error)) or _FIELD.search(str(error))
    return Problem(400, "invalid-generation", str(error), field=match[1] if match else None)
