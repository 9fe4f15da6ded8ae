"""Take verified releases to a Hub and to storage: whole or not at all, again without effect."""
