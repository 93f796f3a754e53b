"""The engine: from events to one row a born thread, its setup window and what happened in it."""
