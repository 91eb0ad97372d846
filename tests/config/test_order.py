"""Which place counts: flags, environment, the project's files, the user's, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.places import Places


def test_each_place_counts_more_than_those_below_it(places: Places) -> None:
    steps: list[tuple[str, int]] = []

    def note(*, flag: int | None = None, **variables: str) -> None:
        settings = places.load({"routing.top_k": flag}, **variables)
        steps.append((settings.origin("routing.top_k"), settings.wiring_options().top_k))

    note()
    user = places.user("[routing]\ntop_k = 3\n")
    note()
    places.pyproject("[tool.intrinsic.routing]\ntop_k = 4\n[project]\nname = 'theirs'\n")
    note()
    places.project("[routing]\ntop_k = 5\n")
    note()
    note(ROUTING__TOP_K="6")
    note(flag=7, ROUTING__TOP_K="6")
    assert steps == [
        ("default", 2),
        (str(user), 3),
        ("pyproject.toml [tool.intrinsic]", 4),
        ("intrinsic.toml", 5),
        ("environment INTRINSIC_ROUTING__TOP_K", 6),
        ("--top-k", 7),
    ]


def test_places_are_merged_key_by_key(places: Places) -> None:
    places.user("[routing]\nthreshold = 0.7\nmin_weight = 0.1\n")
    places.project("[routing]\nthreshold = 0.8\n")
    options = places.load(ROUTING__STICKINESS="0").router_options()
    assert options is not None
    assert (options.threshold, options.min_weight, options.stickiness) == (0.8, 0.1, 0.0)


def test_tables_of_names_are_merged_name_by_name(places: Places) -> None:
    places.user("[routing.memory_weights]\nknn_lm = 0.5\nlogit_bias = 0.5\n")
    settings = places.load(
        ROUTING__MEMORY_WEIGHTS__KNN_LM="0.25", ROUTING__MEMORY_WEIGHTS__CONTEXT_STUFFING="2"
    )
    options = settings.router_options()
    assert options is not None
    assert options.memory_weights == {"knn_lm": 0.25, "logit_bias": 0.5, "context_stuffing": 2.0}
    assert "INTRINSIC_ROUTING__MEMORY_WEIGHTS__KNN_LM" in settings.origin("routing.memory_weights")
    assert "config.toml" in settings.origin("routing.memory_weights")


def test_two_projects_with_different_adapters_are_two_files(tmp_path: Path) -> None:
    one, other = Places(tmp_path / "one"), Places(tmp_path / "other")
    one.project('adapters = "legal"\n')
    other.project('adapters = "medical"\n')
    assert one.load().project.adapters == one.here / "legal"
    assert other.load().project.adapters == other.here / "medical"
    for_one_command = one.load(ADAPTERS="/elsewhere")
    assert for_one_command.project.adapters == Path("/elsewhere")
    assert one.load().project.adapters == one.here / "legal"


@pytest.mark.parametrize("higher", ["registry", "adapters"])
def test_of_registry_and_folder_the_one_of_the_higher_place_counts(
    places: Places, higher: str
) -> None:
    lower = "adapters" if higher == "registry" else "registry"
    places.project(f'{lower} = "below"\n')
    settings = places.load(**{higher.upper(): "/above"})
    assert str(getattr(settings.project, higher)) == "/above"
    assert getattr(settings.project, lower) is None
    assert settings.origin(lower) == "default"


def test_none_takes_away_what_a_lower_place_says(places: Places) -> None:
    places.user('registry = "mine.db"\n[bus]\nhandler_timeout_s = 5\n')
    places.project('registry = "none"\nadapters = "here"\n[bus]\nhandler_timeout_s = "none"\n')
    settings = places.load()
    assert settings.project.registry is None
    assert settings.project.adapters == places.here / "here"
    assert settings.bus_options().handler_timeout_s is None


def test_an_empty_variable_and_a_flag_of_none_are_as_none(places: Places) -> None:
    places.project("[routing]\ntop_k = 5\n")
    assert places.load({"routing.top_k": None}, ROUTING__TOP_K="").value("routing.top_k") == 5


def test_relative_paths_of_a_file_start_at_its_folder(places: Places) -> None:
    (places.home / "tiny").mkdir()
    places.user(
        'registry = "mine.db"\nplugins = ["one", "/two", "~/three"]\nmodel = "tiny"\n'
        '[encoder]\nmodel = "org/name"\n'
    )
    settings = places.load()
    assert settings.project.registry == str(places.home / "mine.db")
    assert settings.project.plugins == (
        places.home / "one",
        Path("/two"),
        Path("~/three").expanduser(),
    )
    assert settings.project.model == str(places.home / "tiny")
    assert settings.value("encoder.model") == "org/name"


def test_lists_and_tables_of_the_environment_are_json_or_a_single_text(places: Places) -> None:
    settings = places.load(
        PLUGINS="one",
        GENERATION__STOP='["a", "b"]',
        MANAGER__EXCLUSIVE='[["a", "b"], ["c", "d"]]',
        ROUTING__MEMORY_WEIGHTS='{"knn_lm": 0.5}',
        BUS__SHADOW="yes",
        MANAGER__MAX_BYTES="none",
    )
    assert settings.project.plugins == (Path("one"),)
    assert settings.generation_options().stop == ("a", "b")
    manager = settings.wiring_options().manager
    assert manager.exclusive == (frozenset("ab"), frozenset("cd"))
    assert manager.max_bytes is None
    assert settings.bus_options().shadow
    assert settings.value("routing.memory_weights") == {"knn_lm": 0.5}


def test_a_changed_file_is_not_picked_up_by_settings_that_are_loaded(places: Places) -> None:
    file = places.project('[routing]\ntop_k = 5\ncalibration = "fitted.json"\n')
    fitted = places.here / "fitted.json"
    fitted.write_text('{"slope": 2.0, "shift": 0.0, "queries": 50}')
    settings = places.load()
    before = settings.wiring_options()
    file.write_text("[routing]\ntop_k = 6\n")
    fitted.write_text('{"slope": 3.0, "shift": 0.0, "queries": 50}')
    assert settings.wiring_options() == before
    assert before.routing is not None
    assert before.routing.calibration is not None
    assert (before.top_k, before.routing.calibration.slope) == (5, 2.0)
    assert places.load().wiring_options().top_k == 6


def test_the_users_file_follows_the_xdg_specification(tmp_path: Path) -> None:
    from intrinsic.config.layers import user_file

    assert user_file({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/intrinsic/config.toml")
    for relative in ("", "x/y"):
        environ = {"XDG_CONFIG_HOME": relative, "HOME": "/h"}
        assert user_file(environ) == Path("/h/.config/intrinsic/config.toml")


def test_names_of_a_table_may_be_tables_themselves(places: Places) -> None:
    settings = places.load(
        EMBEDDING__INSTRUCTIONS='{"search": {"query": "q: "}}',
        EMBEDDING__INSTRUCTIONS__SEARCH__PASSAGE="p: ",
        EMBEDDING__INSTRUCTIONS__CLUSTER__QUERY="c: ",
        EMBEDDING__INSTRUCTIONS__CLUSTER__PASSAGE="d: ",
    )
    found = settings.embedding_options().instructions
    assert (found["search"].query, found["search"].passage) == ("q: ", "p: ")
    assert (found["cluster"].query, found["cluster"].passage) == ("c: ", "d: ")


def test_an_empty_variable_of_a_table_is_as_none(places: Places) -> None:
    places.project("[routing.memory_weights]\nknn_lm = 0.5\n")
    weights = places.load(ROUTING__MEMORY_WEIGHTS__KNN_LM="").value("routing.memory_weights")
    assert weights == {"knn_lm": 0.5}


def test_a_registry_of_none_leaves_the_folder_of_a_lower_place(places: Places) -> None:
    places.user('adapters = "/mine"\n')
    places.project('registry = "team.db"\n')
    assert places.load().project.adapters is None
    settings = places.load(REGISTRY="none")
    assert (settings.project.registry, settings.project.adapters) == (None, Path("/mine"))
    bundled = places.load(ADAPTERS="none").project
    assert (bundled.registry, bundled.adapters) == (None, None)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
def test_a_file_of_a_url_starts_at_the_folder_too(places: Places, scheme: str) -> None:
    places.project(f'registry = "{scheme}:///team.db"\n')
    assert places.load().project.registry == str(places.here / "team.db")
    for whole in (f"{scheme}:////srv/team.db", "postgresql://host/team"):
        places.project(f'registry = "{whole}"\n')
        assert places.load().project.registry == whole
    assert places.load(REGISTRY=f"{scheme}:///team.db").project.registry == f"{scheme}:///team.db"


def test_the_model_of_an_endpoint_is_a_name_even_where_a_folder_has_it(places: Places) -> None:
    (places.here / "judge").mkdir()
    places.project('model = "judge"\n[llm.endpoint]\nbase_url = "http://x"\nmodel = "judge"\n')
    settings = places.load()
    assert settings.value("llm.endpoint.model") == "judge"
    assert settings.project.model == str(places.here / "judge")


def test_a_path_is_taken_where_a_text_may_be_one(places: Places) -> None:
    assert places.load({"model": Path("/m"), "registry": Path("/r.db")}).project.model == "/m"


def test_a_file_may_begin_with_a_byte_order_mark(places: Places) -> None:
    (places.here / "intrinsic.toml").write_bytes(b"\xef\xbb\xbf[routing]\r\ntop_k = 5\r\n")
    assert places.load().value("routing.top_k") == 5
