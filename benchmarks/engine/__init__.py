"""How fast the engine steps and what memory it takes, at every precision."""
