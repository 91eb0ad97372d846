"""The steps that bring a registry's database to the schema of `schema.py`, run by Alembic."""
