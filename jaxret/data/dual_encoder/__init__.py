"""Texts, images and videos as CLIP and SigLIP 2 are given them."""
