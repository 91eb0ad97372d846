"""Keys are made once, kept from others, and never shown."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError
from intrinsic.server.keys import KeyFile, Keys

ADMIN, PLAIN = "a" * 16, "b" * 16


def file_of(folder: Path, content: str | bytes, mode: int = 0o600) -> KeyFile:
    path = folder / "keys"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return KeyFile(path)


def test_the_first_start_makes_keys_that_the_next_one_finds(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "new" / "keys.json")
    keys, made = file.open()
    assert made
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.open() == (keys, False)
    assert len({keys.admin_key, keys.api_key}) == 2
    assert len(keys.api_key) >= 43
    assert [path.name for path in file.path.parent.iterdir()] == ["keys.json"]
    assert KeyFile(tmp_path / "other.json").open()[0] != keys


def test_of_two_that_start_at_once_both_have_the_same_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    write = KeyFile._write
    others: list[Keys] = []

    def slower(self: KeyFile, keys: Keys) -> None:
        if not others:
            others.append(Keys.made())
            write(self, others[0])
        write(self, keys)

    monkeypatch.setattr(KeyFile, "_write", slower)
    assert file.open() == (others[0], False)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = file_of(tmp_path, json.dumps({"admin_key": ADMIN, "api_key": PLAIN}), mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}.*chmod 600"):
        file.open()


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"admin_key": ADMIN, "api_key": PLAIN, "other": 1}),
        f"admin_key: {ADMIN}\napi_key: {PLAIN}\n",
        f"\ufeffadmin_key: {ADMIN}\napi_key: {PLAIN}\n",
        f"# tokens\napi_key: '{PLAIN}'  # plain\nadmin_key: \"{ADMIN}\"\r\n",
    ],
    ids=["json", "tabby", "marked", "yaml"],
)
def test_files_of_both_kinds_are_read(tmp_path: Path, content: str) -> None:
    assert file_of(tmp_path, content).open() == (Keys(ADMIN, PLAIN), False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no admin_key and no api_key"),
        ("{", "no admin_key and no api_key"),
        (b"\xff\xfe", "no admin_key and no api_key"),
        ("[1]", "no admin_key and no api_key"),
        ('{"a":' + "[" * 30_000, "no admin_key and no api_key"),
        (b"x" * 100_000, "no admin_key and no api_key"),
        (json.dumps({"admin_key": ADMIN}), "no api_key"),
        (json.dumps({"admin_key": ADMIN, "api_key": 7}), "no api_key"),
        (json.dumps({"admin_key": ADMIN, "api_key": "short"}), "api_key is not valid"),
        (json.dumps({"admin_key": ADMIN, "api_key": PLAIN + " x"}), "api_key is not valid"),
        (json.dumps({"admin_key": ADMIN, "api_key": PLAIN + "ü"}), "api_key is not valid"),
        (json.dumps({"admin_key": ADMIN, "api_key": ADMIN}), "are the same"),
    ],
)
def test_what_are_no_keys_is_refused_in_words_without_them(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        file_of(tmp_path, content).open()
    assert str(tmp_path) in str(refused.value)
    assert ADMIN not in str(refused.value)
    assert PLAIN not in str(refused.value)


def test_a_folder_and_a_place_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyFile(tmp_path).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be"):
        KeyFile(tmp_path / "file" / "keys.json").open()


def test_a_link_that_leads_nowhere_and_a_path_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="leads nowhere"):
        KeyFile(tmp_path / "keys").open()
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyFile(tmp_path / "a\0b").open()


def test_keys_are_not_shown() -> None:
    assert repr(Keys(ADMIN, PLAIN)) == "Keys()"
