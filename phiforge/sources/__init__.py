"""From a pinned Hub commit or a local folder to a verified source tree."""
