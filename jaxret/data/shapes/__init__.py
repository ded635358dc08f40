"""Shapes world: the embedded corpus, drawn and described by seed."""
