"""What was trained, as a directory that transformers and others load."""
