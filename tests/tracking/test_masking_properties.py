"""Masking by properties: whatever the secret, and wherever its address stands, it is not in what is shown."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from msclnet.tracking.masking import mask, mask_values, may_hold_a_secret

MODERATELY = settings(derandomize=True, deadline=None, database=None, max_examples=100)
MARK = "Zq7"  # stands in no other part of the text

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10)
passwords = printable.map(lambda text: f"{MARK}{text}{MARK}")
tokens = st.text("abcdefgh0123456789%+/=_.~'()-", max_size=20).map(lambda text: f"{MARK}{text}{MARK}")
schemes = st.sampled_from(["http", "https", "postgresql+psycopg2", "mssql+pyodbc", "s3", "ssh", "ftp"])
around = st.sampled_from(["", " ", "'", '"', "(", "GET ", "no answer from ", '<a href="', "{'url': '", "x="])
behind = st.sampled_from(["", " ", "'", '"', ")", ": refused", '" >here</a>', "', 'b': 1}", "\nmore"])


@MODERATELY
@given(around, schemes, passwords, behind)
def test_passwords(before: str, scheme: str, password: str, after: str) -> None:
    address = f"{scheme}://me:{password}@host:80/path"
    masked = mask(f"{before}{address}{after}")
    assert MARK not in masked
    assert "***@host:80/path" in masked
    assert mask(masked) == masked
    assert may_hold_a_secret(address)


@MODERATELY
@given(
    around,
    st.sampled_from(["?", "?a=1&", "#", "?a=1&amp;"]),
    st.sampled_from(["sig", "X-Amz-Signature", "token", "k[0]"]),
    tokens,
    behind,
)
def test_tokens(before: str, mark: str, name: str, token: str, after: str) -> None:
    address = f"https://host/path{mark}{name}={token}"
    masked = mask(f"{before}{address}{after}")
    assert MARK not in masked
    assert "https://host/path" in masked
    assert mask(masked) == masked
    assert may_hold_a_secret(address)


@MODERATELY
@given(
    st.recursive(
        st.none() | st.integers() | passwords,
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab"), inner),
        max_leaves=8,
    )
)
def test_values_keep_their_form(values: object) -> None:
    """Nothing but texts changes: what was ready for JSON still is."""

    def address(value: object) -> object:
        if isinstance(value, str):
            return f"http://me:{value}@host/p"
        if isinstance(value, list):
            return [address(inner) for inner in value]
        return {key: address(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    masked = mask_values(address(values))
    expected = json.dumps(address(values))
    for secret in _texts(values):
        expected = expected.replace(json.dumps(f"http://me:{secret}@host/p"), json.dumps("http://***@host/p"))
    assert json.dumps(masked) == expected


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in _texts(each)]
