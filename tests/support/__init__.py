"""Fixtures and stand-ins that several tests share."""
