"""Stored rows and the tables, grids and charts made from them."""
