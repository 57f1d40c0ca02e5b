"""Vectors against many vectors: the nearest few, exactly, by one pass over rows of 8 or 16 bits."""

from engines.search.rows import Rows
from engines.search.search import Found, Search, open_search

__all__ = ["Found", "Rows", "Search", "open_search"]
