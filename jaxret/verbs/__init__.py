"""What `jaxret VERB` does: a module each, with `main(argv) -> exit code`.

argv: what stands after the verb. `jaxret --help` shows the first line of its
docstring.
"""
