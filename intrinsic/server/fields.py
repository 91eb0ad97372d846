"""What clients may send as a name, a path, a text or a factor."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

AdapterName = Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=_PRINTABLE)]
"""`name`, or `name@version`."""

Line = Annotated[str, StringConstraints(max_length=320, pattern=_PRINTABLE)]
"""A short text on one line, or nothing."""

ServerPath = Annotated[str, StringConstraints(max_length=4096, pattern=_PRINTABLE)]
"""A path on the server."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
"""A short text on one line: an id, a tag."""

Text = Annotated[str, StringConstraints(max_length=200_000, pattern=r"^[^\x00]*$")]
"""A text that is read, or kept."""

Factor = Annotated[float, Field(ge=-1000.0, le=1000.0, allow_inf_nan=False)]
"""What an adapter is multiplied by."""

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
"""A probability, or a threshold for one."""
