"""Homes: devices with their states, and the system prompt that lists them."""
