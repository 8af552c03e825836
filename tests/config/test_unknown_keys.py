"""An unknown key is an error that names the nearest known one, the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosproxy.config import Config
from heliosproxy.config.keys import all_paths, find, section_of, variables
from heliosproxy.config.lines import line_of, lines_of_keys
from heliosproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("cache.l1.sise", 'did you mean "size"?'),
        ("pool.Mode", 'did you mean "mode"?'),
        ("pol", 'did you mean "pool"?'),
        ("cache.size", 'did you mean "cache.l1.size"?'),
        ("sql.zzz", "known here: memo_size"),
    ],
)
def test_the_nearest_key_is_named(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({key: 1})
    assert str(caught.value) == f"{key}: unknown key, {hint}"
    assert caught.value.key == key


@pytest.mark.parametrize("path", all_paths(Config), ids=".".join)
def test_every_section_refuses_strange_keys_and_knows_its_own(path: tuple[str, ...]) -> None:
    if section_of(find(Config, path)) is None:
        path = path[:-1]
    misspelt = ".".join((*path, "qqqqqq"))
    with pytest.raises(ConfigError, match=r"unknown key|an array of tables is wanted|a list is wanted"):
        Config.from_mapping({misspelt: 1})


TEXT = '''\
title-less = 0 # not a key of ours: only lines matter here

[pool]   # comment
mode = "session"
"quoted.key" = 1
reset = """
[not.a.section]
mode = 1
"""

[cache.query]
exclude_patterns = [
  "[x]",
  # ]
  "a = 1",
]
dotted.key.here = 1
inline = { a = 1, b = [ { c = 2 } ] }

[[node]]
name = "a"

  [[node]]
  name = "b"
  [node.sub]
  x = 1
  [[node.list]]
  y = 1
  [[node.list]]
  y = 2
'''


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("title-less",), 1),
        (("pool",), 3),
        (("pool", "mode"), 4),
        (("pool", "quoted.key"), 5),
        (("pool", "reset"), 6),
        (("cache", "query", "exclude_patterns"), 12),
        (("cache", "query", "exclude_patterns", 1), 12),
        (("cache", "query", "dotted", "key", "here"), 17),
        (("cache", "query", "inline", "b", 0, "c"), 18),
        (("node", 0, "name"), 21),
        (("node", 1), 23),
        (("node", 1, "name"), 24),
        (("node", 1, "sub", "x"), 26),
        (("node", 1, "list", 0, "y"), 28),
        (("node", 1, "list", 1, "y"), 30),
        (("node", 1, "missing"), 23),
        (("pool", 0, "mode"), 4),
        (("nowhere",), None),
    ],
)
def test_the_line_of_a_key(location: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(location, lines_of_keys(TEXT)) == line


def test_an_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "helios.toml"
    path.write_text('[pool]\nmode = "session"\n\n[cache.l1]\nttl = "60s"\nsise = "1GB"\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Config.load(path, environ={})
    assert str(caught.value) == f'{path}:6: cache.l1.sise: unknown key, did you mean "size"?'
    assert (caught.value.key, caught.value.file, caught.value.line) == ("cache.l1.sise", str(path), 6)


def test_errors_of_a_file_stand_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "helios.toml"
    lines = [
        "[sql]",
        "memo_size = 'x'",
        "[plugins.wasm]",
        "name = 'a'",
        "path = 'a'",
        "hok = 'a'",
        "[[node]]",
        "name = 'a'",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Config.load(path, environ={})
    places = [line.removeprefix(f"{path}:").split(": ")[:2] for line in str(caught.value).splitlines()]
    assert places == [
        ["2", "sql.memo_size"],
        ["3", "plugins.wasm[0].hook"],
        ["6", "plugins.wasm[0].hok"],
        ["7", "node[0].dsn"],
    ]


# "l" may be either of l1 and l2.
@pytest.mark.parametrize(
    "path", [path for path in variables(Config).values() if len(path[-1]) > 2], ids=".".join
)
def test_a_lost_letter_is_forgiven_for_every_key(path: tuple[str, ...]) -> None:
    lost = ".".join((*path[:-1], path[-1][:-1]))
    with pytest.raises(ConfigError, match=f'did you mean "{path[-1]}"'):
        Config.from_mapping({lost: 1})
