"""VideoChat-Flash and its UMT tower."""
