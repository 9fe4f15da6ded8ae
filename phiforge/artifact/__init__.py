"""The small files that pass between rules, and how a finished thing appears in its place."""
