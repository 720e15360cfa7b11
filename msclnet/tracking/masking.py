"""Keeps secrets, those of addresses and those of the environment, out of logs, tags, files and messages."""

import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

# Greedy on purpose: a password may itself hold `@`, `/` or quotes. Hiding too much is harmless.
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://(\S*)@")
# In HTML an ampersand is written &amp;, and some servers hand out tokens behind a #.
_QUERY_VALUE = re.compile(r"([?&#](?:amp;)?[\w.~%$\[\]-]+=)[^&\s\"<>]+")
# As drivers and libraries write them: password=..., PWD=...;, "token": "...", Authorization: Basic ...
_NAMED = re.compile(
    r"((?:password|passwd|pwd|secret|token|api_?key|access_?key|signature|credential)s?"
    r"(?:=|['\"]\s*[:=]\s*)['\"]?)[^\s'\",;&]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:\w+\s+)?|\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE
)
_CONNECTION_CAUSE = re.compile(r"\[Errno -?\d+\] [^'\")]+|(?:read |connect )?timed out", re.IGNORECASE)
_PATHS_ONLY = ("sqlite", "file")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|AUTH_STRING|CREDENTIALS?)$", re.IGNORECASE
)
# What has an address in it that a user may have been given with a signature, as presigned ones are.
_SIGNED = ("MSCLNET_RAW", "MLFLOW_TRACKING_URI")
# Replacing a few letters wherever they stand would garble every message and hide nothing.
_SHORTEST = 4
_SHORTEST_BY_NAME = 8
_SHORTEST_QUERY_VALUE = 12
_MASKED_LOGGERS = {
    "mlflow", "msclnet", "pipelines", "prefect", "dvc", "urllib3", "requests", "httpx", "httpcore", "sqlalchemy",
    "alembic",
}  # fmt: skip


def mask(text: str) -> str:
    """Replaces everything secret in an address, or in a text that quotes addresses, by `***`.

    Hidden are user names and passwords before an `@`, the values of query strings, what is called a password, token
    or the like (`password=...`), and any occurrence of the secrets that the environment holds: the passwords of all
    addresses in it, the query values of MSCLNET_RAW and MLFLOW_TRACKING_URI, and variables with such names
    (MLFLOW_TRACKING_TOKEN, AWS_SECRET_ACCESS_KEY, PREFECT_API_KEY, ...). File paths of SQLite addresses stay as they
    are.

    Args:
        text: An address such as `https://user:password@host/path?token=x`, or any text.

    Returns:
        The text without its secrets.
    """
    if "@" in text:
        text = _LOGIN.sub(_hide_login, text)
    for pattern in (_QUERY_VALUE, _HEADER, _NAMED):
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, HIDDEN)
    return text


def may_hold_a_secret(address: str) -> bool:
    """Whether there is a password in an address, or anything behind a `?` or `#`, as in presigned addresses.

    A user's name before the host of a web address counts as well: some servers take a token there. A path is no
    address.
    """
    scheme, separator, rest = address.strip().partition("://")
    if not separator or scheme.lower() in _PATHS_ONLY:
        return False
    login, at, _ = rest.rpartition("@")
    return ":" in login or (bool(at) and scheme.lower() in ("http", "https")) or bool(re.search("[?#]", rest))


def mask_values(values: Any) -> Any:
    """Nested mappings and lists with every text in them masked, ready for JSON."""
    if isinstance(values, str):
        return mask(values)
    if isinstance(values, Mapping):
        return {key: mask_values(value) for key, value in values.items()}
    return [mask_values(value) for value in values] if isinstance(values, (list, tuple)) else values


def brief(error: BaseException) -> str:
    """What went wrong in one masked line; of a failed connection only the cause, without the library's layers."""
    text = mask(str(error)).strip().partition("\n")[0]
    if "ConnectionPool(" in text and (cause := _CONNECTION_CAUSE.search(text)):
        return cause[0]
    return text[:300] or type(error).__name__


def mask_logs() -> None:
    """Lets every log record of MLflow, Prefect, DVC, their libraries and this project pass through `mask`.

    The record itself is masked, not one handler's output, so that no handler of any other program part
    (a flow's run logger, a file) sees the secret. A second call changes nothing.
    """
    make_record = logging.getLogRecordFactory()
    if getattr(make_record, "masks_secrets", False):
        return

    def make_masked_record(*args, **kwargs) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if record.name.partition(".")[0] in _MASKED_LOGGERS:
            record.msg, record.args = mask(record.getMessage()), None
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = mask("".join(traceback.format_exception(*record.exc_info)).rstrip())
                record.exc_info = None
        return record

    make_masked_record.masks_secrets = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(make_masked_record)


def _hide_login(match: re.Match[str]) -> str:
    scheme = match[1]
    if scheme.partition("+")[0].lower() in _PATHS_ONLY:
        return f"{scheme}://{_LOGIN.sub(_hide_login, match[2] + '@')}"
    return f"{scheme}://{HIDDEN}@"


def _secrets_of_the_environment() -> list[str]:
    secrets = {secret for name, value in os.environ.items() for secret in _secrets_in(name, value)}
    secrets |= {unquote(secret) for secret in secrets}
    return sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if name in _SECRET_VARIABLES:
        yield value
    elif _SECRET_NAME.search(name) and len(value) >= _SHORTEST_BY_NAME and not value.startswith("/"):
        yield value
        yield value.partition(":")[2]  # user:password
    login = _LOGIN.search(value) if "@" in value else None
    if login and login[1].partition("+")[0].lower() not in _PATHS_ONLY:
        yield login[2].partition(":")[2] or login[2]
    if name in _SIGNED:
        for pair in re.split("[?&#]", value)[1:]:
            given = pair.partition("=")[2]
            if len(given) >= _SHORTEST_QUERY_VALUE:
                yield given
