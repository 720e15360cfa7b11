"""Keeps the secrets of tracking addresses out of logs, tags, files and messages."""

import logging
import os
import re
import traceback
from urllib.parse import unquote

HIDDEN = "***"

# Greedy on purpose: a password may itself hold `@`, `/` or quotes. Hiding too much is harmless.
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\S*)@")
_QUERY_VALUE = re.compile(r"([?&][\w.-]+=)[^&\s'\")]+")
_CONNECTION_CAUSE = re.compile(r"\[Errno -?\d+\] [^'\")]+|(?:read |connect )?timed out", re.IGNORECASE)
_PATHS_ONLY = ("sqlite", "file")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_MASKED_LOGGERS = {"mlflow", "msclnet", "urllib3", "sqlalchemy", "alembic"}


def mask(text: str) -> str:
    """Replaces everything secret in an address, or in a text that quotes addresses, by `***`.

    Hidden are user names and passwords before an `@`, the values of query strings, and any occurrence of the
    secrets that the environment holds for MLflow (the password in MLFLOW_TRACKING_URI,
    MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN). File paths of SQLite addresses stay as they are.

    Args:
        text: An address such as `https://user:password@host/path?token=x`, or any text.

    Returns:
        The text without its secrets.
    """
    text = _LOGIN.sub(_hide_login, text)
    text = _QUERY_VALUE.sub(rf"\g<1>{HIDDEN}", text)
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, HIDDEN)
    return text


def brief(error: BaseException) -> str:
    """What went wrong in one masked line; of a failed connection only the cause, without the library's layers."""
    text = mask(str(error)).strip().partition("\n")[0]
    if "ConnectionPool(" in text and (cause := _CONNECTION_CAUSE.search(text)):
        return cause[0]
    return text[:300] or type(error).__name__


def mask_logs() -> None:
    """Lets every log record of MLflow, its libraries and this package pass through `mask`.

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
    secrets = [os.environ.get(name, "") for name in _SECRET_VARIABLES]
    login = _LOGIN.match(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if login and login[1].partition("+")[0].lower() not in _PATHS_ONLY:
        secrets.append(login[2].partition(":")[2] or login[2])
    spelled = {form for secret in secrets for form in (secret, unquote(secret))}
    # Replacing two or three letters wherever they stand would garble every message and hide nothing.
    return sorted((form for form in spelled if len(form) >= 4), key=len, reverse=True)
