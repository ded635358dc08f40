"""Tools of others on models of jaxret; each imports what it is named after."""
