"""Is a payload what its variant declares: looked at before any prompt, without a runtime."""
