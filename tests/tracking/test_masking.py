import logging

import pytest

from msclnet.tracking.masking import mask, mask_logs

SECRETS = ("hunter2x", "t0kenvalue", "us3rname")


@pytest.mark.parametrize(
    "address",
    [
        "http://us3rname:hunter2x@127.0.0.1:5000",
        "https://t0kenvalue@mlflow.example.org/prefix",
        "postgresql+psycopg2://us3rname:hunter2x@db:5432/mlflow",
        "https://us3rname:hunter2x@x@mlflow.example.org",
        "https://us3rname:a/hunter2x@mlflow.example.org/path",
        "https://us3rname:a'hunter2x\"@mlflow.example.org",
        "https://mlflow.example.org/path?token=t0kenvalue&password=hunter2x",
        "mssql+pyodbc://us3rname:hunter2x@db/mlflow?driver=x",
        "sqlite:////home/me/mlflow.db,http://us3rname:hunter2x@127.0.0.1",
    ],
)
def test_no_secret_of_an_address_is_left(address: str) -> None:
    for text in (address, f"API request to {address} failed (caused by {address})"):
        masked = mask(text)
        assert not any(secret in masked for secret in SECRETS), masked
        assert "***" in masked


def test_what_is_no_secret_stays() -> None:
    assert mask("http://us3rname:hunter2x@127.0.0.1:5000/a") == "http://***@127.0.0.1:5000/a"
    for text in (
        "http://127.0.0.1:5000",
        "sqlite:////home/me@work/mlruns/mlflow.db",
        "write to nobody@example.org",
        "is this so? yes",
    ):
        assert mask(text) == text


def test_secrets_of_the_environment_are_masked_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://us3rname:hunt%2Ber2x@127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0kenvalue")
    assert mask("login hunt+er2x or hunt%2Ber2x, Bearer t0kenvalue!") == "login *** or ***, Bearer ***!"


def test_log_records_are_masked_for_every_handler_with_their_tracebacks() -> None:
    mask_logs()
    mask_logs()
    seen: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    logger, handler = logging.getLogger("mlflow.some.module"), Keeper()
    logger.addHandler(handler)
    try:
        try:
            raise RuntimeError("no answer from http://us3rname:hunter2x@127.0.0.1")
        except RuntimeError:
            logger.exception("failed: %s", "http://us3rname:hunter2x@127.0.0.1")
    finally:
        logger.removeHandler(handler)
    (text,) = seen
    assert "hunter2x" not in text
    assert "RuntimeError: no answer from http://***@127.0.0.1" in text
    assert "failed: http://***@127.0.0.1" in text
