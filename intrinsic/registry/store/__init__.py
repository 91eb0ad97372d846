"""The database behind the registry: every version, its history, its use and what people say.

`versions.py`, `listing.py`, `copies.py`, `usage.py` and `feedback.py` hold what others call, each
on a `Database`. Importing this package alone imports nothing; they import SQLAlchemy.
"""
