"""Score matrices from functions and arrays; no model is imported."""
