import logging

import pytest

from msclnet.tracking.masking import mask, mask_logs, mask_values

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
        "https://host/a.zip?X-Amz-Credential=us3rname%2Fx&X-Amz-Signature=t0kenvalue",
        "https://host/a.zip?a=1&amp;sig=t0kenvalue)more",
        "https://host/page#access_token=t0kenvalue",
        "host=db user=me password=hunter2x dbname=mlflow",
        "DRIVER={ODBC};UID=me;PWD=hunter2x;",
        "{'token': 't0kenvalue', \"api_key\": \"hunter2x\"}",
        "Authorization: Basic t0kenvalue==",
        "{'Authorization': 'Bearer t0kenvalue'}",
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
        "user or password is wrong or missing (https://USER:PASSWORD)",
        "tokens are counted; the token of a registered model: none",
        "x==1 and a[b]=2 & c",
    ):
        assert mask(text) == text


def test_secrets_of_the_environment_are_masked_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://us3rname:hunt%2Ber2x@127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0kenvalue")
    assert mask("login hunt+er2x or hunt%2Ber2x, Bearer t0kenvalue!") == "login *** or ***, Bearer ***!"


def test_secrets_of_other_programs_are_masked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:hunter2x")
    monkeypatch.setenv("https_proxy", "http://me:pr0xyword@proxy:3128")
    monkeypatch.setenv("MSCLNET_RAW", "https://host/a.zip?dl=1&sig=abc%2Fdef%3D0123")
    text = "wJalrXUtnFEMI/K7MDENG, hunter2x, admin:hunter2x, pr0xyword, abc%2Fdef%3D0123, abc/def=0123, dl=1"
    assert mask(text) == "***, ***, ***, ***, ***, ***, dl=1"


def test_values_that_become_json_are_masked_at_any_depth() -> None:
    values = {
        "a": ["http://us3rname:hunter2x@h/p", 1, None, {"b": ("x", "http://h?token=t0kenvalue")}],
        "c": True,
    }
    assert mask_values(values) == {
        "a": ["http://***@h/p", 1, None, {"b": ["x", "http://h?token=***"]}],
        "c": True,
    }


@pytest.mark.parametrize(
    "package",
    ["mlflow", "msclnet", "pipelines", "prefect", "dvc", "urllib3", "requests", "httpx", "sqlalchemy"],
)
def test_log_records_are_masked_for_every_handler_with_their_tracebacks(package: str) -> None:
    mask_logs()
    mask_logs()
    seen: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    logger, handler = logging.getLogger(f"{package}.a.module"), Keeper()
    logger.propagate = False  # the package's own handlers may still hold the output of another test
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
