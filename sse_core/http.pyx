"""Plain HTTP/1.1 messages, read and written in one go (RFC 9112). What is not plain is left to the server's own parser.

`parse_request` never judges: it reads what can be read in one way only, and answers None to everything else, be it allowed
or not. So there is no request that it takes and a stricter parser would refuse, and no error of its own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_Substring
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from io import BytesIO

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    const char *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    MOST_DIGITS = 9     # of a length: below 1 GB, and of any C integer
    MOST_NAME = 64      # of a field's name
    MOST_NAMES = 256    # that are remembered

    # What a byte may be a part of.
    NAME = 1            # a field's name: of a token (RFC 9110, section 5.6.2) letters, digits and the hyphen
    VALUE = 2           # a field's value: VCHAR, SP and HTAB
    TARGET = 4          # a path or query: VCHAR without "#", which begins a fragment

cdef uint8_t CLASS[256]


cdef void _classify() noexcept:
    cdef int byte
    for byte in range(256):
        CLASS[byte] = 0
        if 0x20 <= byte <= 0x7E or byte == c"\t":
            CLASS[byte] |= VALUE
        if 0x21 <= byte <= 0x7E and byte != c"#":
            CLASS[byte] |= TARGET
        if c"a" <= byte <= c"z" or c"A" <= byte <= c"Z" or c"0" <= byte <= c"9" or byte == c"-":
            CLASS[byte] |= NAME


_classify()

# Without HEAD, whose answers have no body.
cdef tuple METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# Fields that change where a message ends, or what comes after it.
cdef frozenset NOT_PLAIN = frozenset((
    "HTTP_EXPECT", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION", "HTTP_TE", "HTTP_TRAILER", "HTTP_TRANSFER_ENCODING",
    "HTTP_UPGRADE",
))

# By a field's name as it was sent, its name in an environ; None for those that are not plain.
cdef dict _keys = {}


cdef class Request:
    """A request with its whole body, read-only. The attributes are those of gunicorn's own requests.

    ``fields`` has what an environ (PEP 3333) has of it: ``HTTP_*``, ``CONTENT_TYPE``, ``CONTENT_LENGTH``. ``environ`` is for
    whoever makes one; it is None before.
    """

    cdef readonly str method
    cdef readonly str uri
    cdef readonly str path
    cdef readonly str query
    cdef readonly dict fields
    cdef readonly object body
    cdef public dict environ

    fragment = ""
    version = (1, 1)
    scheme = "http"
    proxy_protocol_info = None
    _expected_100_continue = False

    def should_close(self) -> bool:
        """Whether the client wants the connection to end after it."""
        return False

    @property
    def headers(self) -> list:
        """The fields, by upper-case names."""
        return [(key.removeprefix("HTTP_").replace("_", "-"), value) for key, value in self.fields.items()]


def parse_request(bytes data not None, Py_ssize_t most_line, Py_ssize_t most_fields, Py_ssize_t most_field):
    """Return the `Request` that `data` is, or None if it is anything but one whole, plain request. Thread-safe.

    ``most_line``, ``most_fields`` and ``most_field`` are the most bytes of the request line, fields, and bytes of a field, all
    with the ends of their lines.
    """
    cdef const char *start = PyBytes_AS_STRING(data)
    cdef const char *end = start + PyBytes_GET_SIZE(data)
    cdef const char *at = start
    cdef const char *line = start
    cdef const char *query = NULL
    cdef const char *value
    cdef const char *last
    cdef Py_ssize_t length = -1
    cdef Py_ssize_t fields = 0
    cdef Py_ssize_t target
    cdef Request request
    cdef str method
    cdef str key
    cdef str text

    for method in METHODS:
        if end - at > len(method) and memcmp(at, PyUnicode_DATA(method), <size_t>len(method)) == 0 and at[len(method)] == c" ":
            break
    else:
        return None
    at += len(method) + 1
    line = at
    # An absolute path that is not decoded, and no "//", which some read as an authority.
    if end - at < 2 or at[0] != c"/" or at[1] == c"/":
        return None
    while at < end and CLASS[<uint8_t>at[0]] & TARGET:
        if at[0] == c"?" and query == NULL:
            query = at
        elif at[0] == c"%" and query == NULL:
            return None
        at += 1
    target = at - line
    if end - at < 11 or memcmp(at, b" HTTP/1.1\r\n", 11) != 0:
        return None
    at += 11
    if at - start > most_line:
        return None
    request = Request.__new__(Request)
    request.method = method
    request.uri = PyUnicode_DecodeASCII(line, target, NULL)
    if query == NULL:
        request.path = request.uri
        request.query = ""
    else:
        request.path = PyUnicode_Substring(request.uri, 0, query - line)
        request.query = PyUnicode_Substring(request.uri, query - line + 1, target)
    request.fields = {}

    while True:
        if end - at < 2:
            return None
        if at[0] == c"\r" and at[1] == c"\n":
            at += 2
            break
        fields += 1
        line = at
        while at < end and CLASS[<uint8_t>at[0]] & NAME:
            at += 1
        if at == end or at[0] != c":" or at == line or at - line > MOST_NAME:
            return None
        key = _key(line, at - line)
        if key is None:
            return None
        at += 1
        while at < end and (at[0] == c" " or at[0] == c"\t"):
            at += 1
        value = last = at
        while at < end and CLASS[<uint8_t>at[0]] & VALUE:
            if at[0] != c" " and at[0] != c"\t":
                last = at + 1
            at += 1
        if end - at < 2 or at[0] != c"\r" or at[1] != c"\n":
            return None
        at += 2
        # A field that comes twice is a list, or an attack.
        if fields > most_fields or at - line > most_field or key in request.fields:
            return None
        text = PyUnicode_DecodeASCII(value, last - value, NULL)
        if key == "CONTENT_LENGTH":
            length = _length(value, last - value)
            if length < 0:
                return None
        elif key == "HTTP_CONNECTION" and text.lower() != "keep-alive":
            return None
        request.fields[key] = text
    if "HTTP_HOST" not in request.fields or end - at != max(length, 0):
        return None
    request.body = BytesIO(PyBytes_FromStringAndSize(at, end - at))
    return request


cdef str _key(const char *name, Py_ssize_t size):
    """The name in an environ of a field; None for a field that is not plain."""
    cdef bytes sent = PyBytes_FromStringAndSize(name, size)
    cdef str key
    if sent in _keys:
        return _keys[sent]
    key = sent.decode("ascii").upper().replace("-", "_")
    if key != "CONTENT_LENGTH" and key != "CONTENT_TYPE":
        key = "HTTP_" + key
    if key in NOT_PLAIN:
        key = None
    if len(_keys) < MOST_NAMES:
        _keys[sent] = key
    return key


cdef Py_ssize_t _length(const char *text, Py_ssize_t size) noexcept nogil:
    """The number that decimal digits are, or -1."""
    cdef Py_ssize_t number = 0
    cdef Py_ssize_t i
    if not 0 < size <= MOST_DIGITS:
        return -1
    for i in range(size):
        if not c"0" <= text[i] <= c"9":
            return -1
        number = number * 10 + (text[i] - c"0")
    return number


def format_head(str status not None, list headers not None, frozenset dropped not None):
    """Return the beginning of an answer's head, up to and with `headers`, and the length of its body; or None.

    None for everything but an answer with a body of known length and fields that need no second look: the names in
    `dropped`, in lower case, are such. Thread-safe.
    """
    cdef Py_ssize_t size = 9 + PyUnicode_GET_LENGTH(status) + 2
    cdef Py_ssize_t length = -1
    cdef const char *text = PyUnicode_DATA(status)
    cdef object item
    cdef object name
    cdef object value
    cdef bytes head
    cdef char *to
    # Three digits and a reason; 204 and 304 have no body, nor has anything below 200.
    if not PyUnicode_IS_ASCII(status) or PyUnicode_GET_LENGTH(status) < 5 or not _all(status, VALUE):
        return None
    if not c"2" <= text[0] <= c"5" or not c"0" <= text[1] <= c"9" or not c"0" <= text[2] <= c"9" or text[3] != c" ":
        return None
    if text[1] == c"0" and text[2] == c"4" and (text[0] == c"2" or text[0] == c"3"):
        return None
    for item in headers:
        # Of these classes exactly: nothing of the application's own runs in here, and the second turn finds what the first did.
        if type(item) is not tuple or len(<tuple>item) != 2:
            return None
        name, value = <tuple>item
        if type(name) is not str or type(value) is not str or not PyUnicode_IS_ASCII(name) or not PyUnicode_IS_ASCII(value):
            return None
        if not _all(name, NAME) or not _all(value, VALUE) or not _is_stripped(value):
            return None
        lower = (<str>name).lower()
        if lower in dropped:
            return None
        if lower == "content-length":
            if length >= 0:
                return None
            length = _length(PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
            if length < 0:
                return None
        size += PyUnicode_GET_LENGTH(name) + PyUnicode_GET_LENGTH(value) + 4
    if length < 0:
        return None
    head = PyBytes_FromStringAndSize(NULL, size)
    to = _put(PyBytes_AS_STRING(head), b"HTTP/1.1 ", 9)
    to = _put(_put(to, text, PyUnicode_GET_LENGTH(status)), b"\r\n", 2)
    for name, value in headers:
        to = _put(_put(to, PyUnicode_DATA(name), PyUnicode_GET_LENGTH(name)), b": ", 2)
        to = _put(_put(to, PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value)), b"\r\n", 2)
    return head, length


cdef inline char *_put(char *to, const char *text, Py_ssize_t size) noexcept nogil:
    memcpy(to, text, <size_t>size)
    return to + size


cdef bint _all(object text, int kind) noexcept:
    """Whether a text of ASCII has something, and only of one class."""
    cdef const uint8_t *data = <const uint8_t *>PyUnicode_DATA(text)
    cdef Py_ssize_t i
    for i in range(PyUnicode_GET_LENGTH(text)):
        if not CLASS[data[i]] & kind:
            return False
    return PyUnicode_GET_LENGTH(text) > 0


cdef bint _is_stripped(object text) noexcept:
    cdef const char *data = PyUnicode_DATA(text)
    cdef char first = data[0]
    cdef char last = data[PyUnicode_GET_LENGTH(text) - 1]
    return not (first == c" " or first == c"\t" or last == c" " or last == c"\t")
