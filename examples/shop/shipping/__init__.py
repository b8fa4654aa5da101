"""Shipping: sends what is paid and reserved."""
