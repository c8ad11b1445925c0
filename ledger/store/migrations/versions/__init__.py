"""One .sql and one .py per version."""
