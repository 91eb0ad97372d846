"""Plugins are found as entry points and in folders; a broken one is reported, the rest loads."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError, PluginLoadError
from intrinsic.plugins import PluginManager

SOUND = """
from intrinsic.hookspecs import hookimpl

__version__ = "0.3"
NAME = "{name}"

@hookimpl
def select_adapters(query):
    return NAME
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_every_file_of_a_folder_is_loaded_in_order_of_the_names(tmp_path: Path) -> None:
    plugins = PluginManager()
    sound = {name: SOUND.format(name=name) for name in ("b", "a", "c")}
    assert plugins.load_folder(write(tmp_path, **sound)) == ["a", "b", "c"]
    assert [(info.name, info.version, info.source) for info in plugins.list_plugins()] == [
        (name, "0.3", str(tmp_path / f"{name}.py")) for name in ("a", "b", "c")
    ]
    assert plugins.problems == []
    outcome = plugins.call_sync("select_adapters", query="", candidates=[], top_k=1, context=None)
    assert outcome.values == ("c", "b", "a")
    assert not (tmp_path / "__pycache__").exists()


def test_what_is_no_plugin_file_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, _private="raise ValueError", sound=SOUND)
    (tmp_path / "notes.txt").write_text("raise ValueError")
    (tmp_path / "folder.py").mkdir()
    plugins = PluginManager()
    assert plugins.load_folder(str(tmp_path)) == ["sound"]
    assert plugins.problems == []


def test_two_folders_may_hold_a_file_of_the_same_name(tmp_path: Path) -> None:
    one = write(tmp_path / "one", same=SOUND.format(name="one"))
    two = write(tmp_path / "two", same=SOUND.format(name="two"))
    plugins = PluginManager()
    assert plugins.load_folder(one) == ["same"]
    assert plugins.load_folder(two) == [f"same ({two})"]
    outcome = plugins.call_sync("select_adapters", query="", candidates=[], top_k=1, context=None)
    assert outcome.values == ("two", "one")


def test_a_folder_loaded_twice_is_loaded_once(tmp_path: Path) -> None:
    plugins = PluginManager()
    plugins.load_folder(write(tmp_path, a=SOUND))
    write(tmp_path, b=SOUND)
    assert plugins.load_folder(tmp_path) == ["b"]
    assert len(plugins.list_plugins()) == 2


def test_a_blocked_file_is_not_even_run(tmp_path: Path) -> None:
    plugins = PluginManager()
    plugins.block("a")
    assert plugins.load_folder(write(tmp_path, a="raise ValueError", b=SOUND)) == ["b"]
    assert plugins.problems == []


BROKEN = [
    ("x = (\n", 1, "SyntaxError: '(' was never closed"),
    ("\nimport not_there\n", 2, "ModuleNotFoundError: No module named 'not_there'"),
    ("\n\ndef f():\n    raise ValueError('why')\nf()\n", 4, "ValueError: why"),
    ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
    ("x = '\0'", 1, "null bytes"),
    (
        "from intrinsic.hookspecs import hookimpl\n\n@hookimpl\ndef on_evnt(event): ...\n",
        3,
        "unknown hook 'on_evnt'; did you mean 'on_event'?; hooks: adjust_selections, on_adapter",
    ),
    (
        "from intrinsic.hookspecs import hookimpl\n@hookimpl\ndef on_event(events): ...\n",
        2,
        "hook 'on_event' has no argument 'events'; it can take any of: event",
    ),
    ("def on_event(event): ...\n", 1, "this file implements no hook; mark functions with"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BROKEN, ids=lambda value: str(value)[-20:])
def test_a_broken_file_is_reported_with_file_and_line_and_the_rest_loads(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    plugins = PluginManager()
    before = set(sys.modules)
    assert plugins.load_folder(write(tmp_path, a=SOUND, broken=text, z=SOUND)) == ["a", "z"]
    (error,) = plugins.problems
    assert isinstance(error, PluginLoadError)
    assert str(error).startswith(f"{tmp_path / 'broken.py'}:{line}: ")
    assert problem in str(error)
    assert not [name for name in set(sys.modules) - before if "broken" in name]
    write(tmp_path, broken=SOUND)
    assert plugins.load_folder(tmp_path) == ["broken"]


def test_a_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugin folder '.*nowhere' does not exist"):
        PluginManager().load_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="does not exist; name a folder"):
        PluginManager().load_folder(tmp_path / "file")


def test_a_plugin_file_is_a_real_module(tmp_path: Path) -> None:
    text = SOUND + "\nimport dataclasses, sys\n@dataclasses.dataclass\nclass C:\n    x: int\n"
    text += "assert sys.modules[__name__].C is C\nassert __file__.endswith('.py')\n"
    plugins = PluginManager()
    assert plugins.load_folder(write(tmp_path, a=text)) == ["a"]
    assert plugins.problems == []


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found: list[EntryPoint] = []

    def entry_points(group: str) -> EntryPoints:
        return EntryPoints(point for point in found if point.group == group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return found


def test_entry_points_are_loaded_and_a_broken_one_is_reported(
    points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ep_sound=SOUND, ep_raises="raise ValueError('why')", ep_exits="exit(2)")
    write(tmp_path, ep_hookless="", ep_blocked=SOUND)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("sound", "raises", "exits", "hookless", "missing", "blocked"):
        points.append(EntryPoint(name, f"ep_{name}", "intrinsic"))
    points.append(EntryPoint("elsewhere", "ep_sound", "another_group"))
    plugins = PluginManager()
    plugins.block("blocked")
    assert plugins.load_entry_points() == ["sound"]
    (info,) = plugins.list_plugins()
    assert (info.name, info.source, info.version) == ("sound", "entry point", "0.3")
    assert [str(problem).partition(": ")[0] for problem in plugins.problems] == [
        "entry point 'exits' (ep_exits)",
        "entry point 'hookless' (ep_hookless)",
        "entry point 'missing' (ep_missing)",
        "entry point 'raises' (ep_raises)",
    ]
    assert "ValueError: why" in str(plugins.problems[-1])
    assert plugins.load_entry_points() == []
    assert len(plugins.problems) == 4
    for name in ("ep_sound", "ep_blocked", "ep_hookless"):
        sys.modules.pop(name, None)


def test_an_entry_point_whose_name_is_taken_is_reported(
    points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ep_one=SOUND, ep_two=SOUND)
    monkeypatch.syspath_prepend(tmp_path)
    points += [EntryPoint("same", "ep_one", "intrinsic"), EntryPoint("same", "ep_two", "intrinsic")]
    plugins = PluginManager()
    assert plugins.load_entry_points() == ["same"]
    assert "plugin name 'same' is taken by entry point" in str(plugins.problems[0])
    for name in ("ep_one", "ep_two"):
        sys.modules.pop(name, None)


def test_no_entry_points_are_no_problem() -> None:
    plugins = PluginManager()
    assert plugins.load_entry_points("a.group.that.nobody.uses") == []
    assert plugins.problems == []
