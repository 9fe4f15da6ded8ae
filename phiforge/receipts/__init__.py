"""What a check says: its schema, who signed it, and whether it is believed."""
