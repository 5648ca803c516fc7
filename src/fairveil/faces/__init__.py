"""Faces: detect, align, embed."""
