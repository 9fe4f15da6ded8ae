"""From a pinned Phi-3 to validated release artifacts for AI PCs."""
