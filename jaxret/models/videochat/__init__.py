"""VideoChat-Flash and its UMT tower."""
# Qwen2's own files, and those of Qwen2.5, hold its decoder alone: texts.
GENERATIVE_TYPES = ('videochat_flash_qwen', 'qwen2')
