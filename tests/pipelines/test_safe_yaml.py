"""YAML that was written to do harm: every text gives plain values or a message, in the wink of an eye."""

from pathlib import Path

import pytest

from msclnet.errors import UserError
from pipelines.orchestration.dvc_files import output_files, read_stages
from pipelines.orchestration.overrides import apply_overrides, parse_settings
from pipelines.preset import write_preset
from pipelines.stages.config import MOST_BYTES, MOST_DEPTH, load_yaml, read_yaml

# Each line names the one before ten times: ten thousand million values in 400 characters.
LAUGHS = "a: &a [" + ",".join("x" * 10) + "]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)  # fmt: skip
MERGED_LAUGHS = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{{', '.join(f'{key}: *{before}' for key in 'uvwxyz')}}}\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
HARMFUL = {
    "billion laughs": (LAUGHS, "its aliases multiply to more than"),
    "billion laughs in mappings": (MERGED_LAUGHS, "its aliases multiply to more than"),
    "an alias within itself": ("a: &a [1, *a]", "an alias stands inside of what it names"),
    "a mapping within itself": ("&a {b: {c: *a}}", "an alias stands inside of what it names"),
    "brackets": ("[" * 100_000, "brackets are open at once"),
    "closed brackets": ("[" * 3000 + "]" * 3000, "brackets are open at once"),
    "braces": ("{a: " * 100 + "1" + "}" * 100, "brackets are open at once"),
    "dashes": ("- " * 20_000, "nested too deeply"),
    "question marks": ("? " * 20_000, "nested too deeply"),
    "indentation": ("".join(f"{' ' * i}a:\n" for i in range(MOST_DEPTH + 10)), "nested too deeply"),
    "length": ("# " + "x" * MOST_BYTES, "longer than"),
    "digits": (f"a: {'9' * 5000}", "4300 digits"),
    "hexadecimal digits": (f"a: 0x{'f' * 100_000}", "too many digits"),
    "a thirteenth month": ("a: 2001-13-01", "month must be in"),
    "no number": ("a: !!int x", "invalid literal"),
    "no truth": ("a: !!bool perhaps", "perhaps"),
    "half a character": (r'a: "\ud800"', "surrogates not allowed"),
    "a duplicate key": ("a: 1\na: 2", "duplicate key"),
    "an object": ("a: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
    "a name": ("a: !!python/name:os.system", "could not determine a constructor"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "a NUL": ("a: \0", "special characters"),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_texts_are_refused_with_the_reason(kind: str) -> None:
    text, reason = HARMFUL[kind]
    for given in (text, text.encode("utf-8", "surrogatepass")):
        with pytest.raises(UserError, match=rf"(?s)^x\.yaml is no valid YAML: .*{reason}") as caught:
            load_yaml(given, source="x.yaml")
        assert len(str(caught.value)) < 2000


def test_what_is_only_unusual_is_read() -> None:
    aliases = "a: &a {b: [1, 2]}\nc: *a\nd: [*a, *a]\ne: {<<: *a, f: 1e-3}\n"
    inner = {"b": [1, 2]}
    assert load_yaml(aliases, source="x") == {
        "a": inner,
        "c": inner,
        "d": [inner] * 2,
        "e": {**inner, "f": 1e-3},
    }
    deep = "[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1)
    values = load_yaml(deep, source="x")
    for _ in range(MOST_DEPTH - 2):
        (values,) = values
    assert values == []
    assert load_yaml("a: ']]' # [\n" * 1 + f"b: {2**1000}\n", source="x") == {"a": "]]", "b": 2**1000}
    assert load_yaml(b"\xef\xbb\xbfa: \xc3\xa4", source="x") == {"a": "ä"}


@pytest.mark.parametrize("kind", ["billion laughs", "brackets", "an object", "digits"])
def test_wherever_yaml_is_read(kind: str, tmp_path: Path) -> None:
    text = HARMFUL[kind][0]
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text(text)
    for read in (
        lambda: read_yaml(tmp_path / "params.yaml"),
        lambda: apply_overrides(tmp_path / "params.yaml", {"a": 1}),
        lambda: parse_settings([f"train.epochs={text}"]),
        lambda: read_stages(tmp_path),
        lambda: output_files(text, stages=["train"], cache=tmp_path),
    ):
        with pytest.raises(UserError, match="is no valid YAML"):
            read()
    assert (tmp_path / "params.yaml").read_text() == text


@pytest.mark.parametrize("broken", [None, "", "- 1", "a: [", LAUGHS])
def test_a_preset_takes_the_place_of_params_that_cannot_be_read(
    broken: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The very command that messages about broken params name."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(root / "presets")
    if broken is not None:
        (tmp_path / "params.yaml").write_text(broken)
    write_preset("smoke")
    assert (tmp_path / "params.yaml").read_bytes() == (root / "presets/smoke.yaml").read_bytes()
    assert "  train.epochs: (no such key) -> 3" in capsys.readouterr().out
