"""CLIP, SigLIP and SigLIP 2: two towers that meet in one space."""
MODEL_TYPES = ('clip', 'siglip', 'siglip2')
