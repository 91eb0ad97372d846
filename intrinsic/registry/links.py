"""Links that lead out of the folder that the user named."""

from __future__ import annotations

from pathlib import Path

from intrinsic.errors import CheckpointError


def refuse_links_out(adapter: Path, root: Path) -> None:
    """Raise `CheckpointError` where the adapter's folder or one of its files lies outside `root`.

    A snapshot in a Hugging Face cache may link to the blobs of its own repository.
    """
    allowed = [root.resolve()]
    if root.resolve().parent.name == "snapshots":
        allowed.append(root.resolve().parent.parent / "blobs")
    for path in (adapter, *sorted(adapter.iterdir())):
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is a link that leads nowhere: {error}") from None
        if not any(target.is_relative_to(folder) for folder in allowed):
            raise CheckpointError(
                f"{path} is a link out of {root}, to {target}; copy it into the folder, or "
                "register the adapter by its own path"
            )
