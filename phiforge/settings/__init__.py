"""The configuration as closed, frozen models; the plan of what is built from it."""
