"""Millrace: one Ray application that carries a model round the whole loop."""
