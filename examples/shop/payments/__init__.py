"""Payments: authorised, refused, voided."""
