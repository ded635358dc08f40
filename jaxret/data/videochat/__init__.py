"""What VideoChat-Flash is given: its chat template and placeholders."""
