import pytest

from msclnet.tracking.masking import brief, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://me:hunter2x@host:5000/a?b=c", "https://***@host:5000/a?b=c"),
        (
            "postgresql+psycopg2://token@db/x then http://a:b@c",
            "postgresql+psycopg2://***@db/x then http://***@c",
        ),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("git@github.com:a/b, mail a@b.c", "git@github.com:a/b, mail a@b.c"),
    ],
)
def test_the_login_of_every_address_is_hidden(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_an_error_in_one_line() -> None:
    assert brief(ValueError("of http://me:pw@host\nand more")) == "of http://***@host"
    assert brief(ValueError()) == "ValueError"
    layers = (
        "HTTPConnectionPool(host='h', port=1): Max retries (Caused by X('[Errno 111] Connection refused'))"
    )
    assert brief(OSError(layers)) == "[Errno 111] Connection refused"
