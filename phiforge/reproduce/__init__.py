"""The same inputs built again under other circumstances, and the bytes held side by side."""
