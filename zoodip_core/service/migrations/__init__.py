"""Alembic's scripts, run by `Database.migrate` over a connection that it hands in."""
