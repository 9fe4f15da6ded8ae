"""A checked build becomes a release: manifest, gate, staging, card, summary."""
