"""One's own media: indexed once, added to, searched by anything."""
