"""Addresses, and what must not be shown of them."""

import re
import string
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from msclnet.errors import UserError

HIDDEN = "***"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(text: str) -> str:
    """The scheme of `scheme://...` in lower case; empty for a path."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else ""


def shown(url: str) -> str:
    """The address without user, password, query and fragment, for messages."""
    scheme, _, rest = url.partition("://")
    # Greedy on purpose: a password may itself hold `@`, `/` or `?`. Hiding too much is harmless.
    _, login, rest = rest.rpartition("@")
    place, *hidden = re.split(r"[?#]", rest, maxsplit=1)
    return f"{scheme}://{HIDDEN + '@' if login else ''}{place}{'?' + HIDDEN if hidden else ''}"


def check_address(url: str) -> None:
    """Whether an address can be asked for at all.

    Raises:
        UserError: It has no host, a wrong port, or blanks and control characters.
    """
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UserError(
            f"{shown(url)} is not a valid address; write scheme://host/path, with %20 for a blank, and the special "
            "characters of a password percent-encoded"
        )


def without_login(url: str) -> tuple[str, str, str]:
    """The address in ASCII as it is asked for, the user and the password; empty where there is none."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    plain = urlunsplit((parts.scheme, host, path, query, ""))
    return plain, unquote(user), unquote(password)
