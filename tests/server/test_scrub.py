"""No path of this machine in a sentence for clients; what is none stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrinsic.server.scrub import Scrubber


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("/srv/a/b.safetensors is broken", "b.safetensors is broken"),
        ("adapter folder '/srv/my team/x' does not exist", "adapter folder 'x' does not exist"),
        ("('/srv/a/x', 7)", "('x', 7)"),
        ("cannot read /srv/a/: [Errno 13] '/srv/a'", "cannot read a: [Errno 13] 'a'"),
        ("~/models/x is missing", "x is missing"),
        (r"C:\Users\me\x.json is broken", "x.json is broken"),
        ("sqlite:////srv/a/r.db is locked", "the database is locked"),
        ("postgresql+psycopg://me:pw@db.corp/x is gone", "the database is gone"),
        ("see /v1/adapters and GET /health", "see /v1/adapters and GET /health"),
        ("weights a/b and 3/4 and/or n/a", "weights a/b and 3/4 and/or n/a"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("org/model-7b is another model", "org/model-7b is another model"),
        ("/srvx/my teams/y is broken", "my teams/y is broken"),
        ("nothing of that kind", "nothing of that kind"),
    ],
)
def test_paths_are_told_by_their_last_part(message: str, told: str) -> None:
    assert Scrubber([Path("/srv/my team")])(message) == told


def test_configured_folders_are_known_by_what_they_link_to(tmp_path: Path) -> None:
    real = tmp_path / "real place"
    (real / "adapters").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    scrub = Scrubber([tmp_path / "link"])
    assert scrub(f"{real}/adapters/x y.json is broken") == "adapters/x y.json is broken"
    assert scrub(f"{tmp_path}/link is no folder") == "link is no folder"
    assert str(Path.home()) not in scrub(f"{Path.home()}/secret place/x is broken")
