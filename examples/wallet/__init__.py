"""Wallets, and transfers between them."""
