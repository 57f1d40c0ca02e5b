"""How well a model tells people apart: verification, identification, conditions, and the report of them."""
