"""Hides logins in addresses; short messages of errors."""

import re

_LOGIN = re.compile(r"://[^@/\s]+@")
_CONNECTION_CAUSE = re.compile(r"\[Errno -?\d+\] [^'\")]+|(?:read |connect )?timed out", re.IGNORECASE)


def mask(text: str) -> str:
    """The text with `://user:password@` replaced by `://***@` in every address."""
    return _LOGIN.sub("://***@", text)


def brief(error: BaseException) -> str:
    """The error's first line, masked; of a failed connection the cause alone, without the library's layers."""
    text = mask(str(error)).strip().partition("\n")[0]
    if "ConnectionPool(" in text and (cause := _CONNECTION_CAUSE.search(text)):
        return cause[0]
    return text[:300] or type(error).__name__


def may_hold_a_secret(address: str) -> bool:
    """Whether an address holds a login, or a query string as presigned addresses do. A path is no address."""
    scheme, separator, rest = address.strip().partition("://")
    return bool(separator) and scheme.lower() not in ("sqlite", "file") and bool(re.search("[@?#]", rest))
